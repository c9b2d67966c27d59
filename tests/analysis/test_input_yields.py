"""Histograms of the inputs: what they hold, and how large their uncertainty is."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from difana.analysis.input_yields import histogram_separation, input_yields
from difana.data import (
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
)

RNG = np.random.default_rng(5)


def events(rows: np.ndarray, weights: np.ndarray) -> Events:
    return Events(jnp.asarray(rows), jnp.asarray(weights), columns=("x", "n"))


def features(size: int, mean: float) -> np.ndarray:
    return np.stack([RNG.normal(mean, 1, size), RNG.integers(0, 4, size)], 1)


def samples() -> tuple[Sample, Sample, Sample]:
    """Signal, and two backgrounds that share a nuisance parameter of each kind."""
    x, y = features(4000, 0.0), features(2000, 1.0)
    w, v = np.full(4000, 0.5), np.full(2000, 0.25)
    scale = Transformation(function=lambda a, alpha: a.at[:, 0].add(0.1 * alpha), name="scale")
    weight = WeightVariation(up=jnp.asarray(1.1 * v), down=jnp.asarray(0.8 * v), name="weight")
    norm = Normalisation(up=1.2, down=0.9, name="norm")
    other = events(y + np.array([0.2, 0.0]), 1.3 * v)
    files = ShiftedEvents(up=other, down=events(y, v), name="norm")  # the same parameter
    return (
        Sample(events(features(500, 2.0), np.ones(500)), name="s", normfactors=("mu",)),
        Sample(events(x, w), (scale, norm), name="a", variance_scale=0.5),
        Sample(events(y, v), (scale, weight, files), name="b"),
    )


def test_uncertainty_adds_statistics_and_correlated_systematics() -> None:
    signal, a, b = samples()
    found = {own.name: own for own in input_yields([signal, a, b], poi="mu")}
    own = found["x"]
    edges = own.edges
    inside = np.clip(edges, edges[0], edges[-1])

    def filled(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        clipped = np.clip(x, inside[0], np.nextafter(inside[-1], -np.inf))
        return np.histogram(clipped, edges, weights=w)[0]

    (x, w), (y, v) = (
        (np.asarray(s.nominal.features)[:, 0], np.asarray(s.nominal.weights)) for s in (a, b)
    )
    statistics = 0.5 * filled(x, w**2) + filled(y, v**2)
    scale = sum(filled(p + 0.1, q) - filled(p - 0.1, q) for p, q in ((x, w), (y, v))) / 2
    weight = 0.15 * filled(y, v)
    norm = 0.15 * filled(x, w) + (filled(y + 0.2, 1.3 * v) - filled(y, v)) / 2
    wanted = np.sqrt(statistics + scale**2 + weight**2 + norm**2)
    np.testing.assert_allclose(own.errors, wanted, rtol=1e-6)
    # all events are in the bins, those outside in the outermost ones
    assert sum(own.samples["a"]) == pytest.approx(2000)
    assert own.signals == ("s",)
    assert set(own.background) == {"a", "b"}
    assert own.data is None
    assert found["n"].edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert own.separation > 0.3 > 0.02 > found["n"].separation


def test_data_and_the_inputs_that_separate_best() -> None:
    parts = samples()
    observed = Events(jnp.array([[0.1, 3.0], [99.0, 3.0]]), jnp.ones(2), columns=("x", "n"))
    (own,) = input_yields(parts, observed, poi="mu", most=1)
    assert own.name == "x"
    assert own.data is not None
    assert own.data.sum() == 2
    assert own.data[-1] == 1  # what lies outside
    nothing = Events(jnp.zeros((0, 2)), jnp.zeros(0), columns=("x", "n"))
    assert input_yields(parts, nothing, poi="mu")[0].data.sum() == 0  # an observation, too


def test_particles_count_one_by_one() -> None:
    particles = jnp.arange(12.0).reshape(2, 3, 2)
    mask = jnp.array([[True, True, False], [True, False, False]])
    cloud = Events(
        jnp.zeros((2, 0)), jnp.array([2.0, 5.0]), particles, mask, columns=(),
        particle_columns=("pt", "eta"),
    )  # fmt: skip
    signal = Sample(cloud, name="s", normfactors=("mu",))
    pt, eta = input_yields([signal, Sample(cloud, name="b")], poi="mu")
    assert (pt.name, eta.name) == ("pt", "eta")
    for own in (pt, eta):
        assert own.samples["b"].sum() == 2 * 2 + 5
        assert own.separation == 0
    filled = pt.edges[:-1][pt.samples["b"] > 0] + 0.5
    assert filled.tolist() == [0, 2, 6]


def test_constant_inputs_and_missing_classes() -> None:
    one = Events(jnp.full((3, 1), 0.3), jnp.ones(3), columns=("x",))
    (own,) = input_yields([Sample(one, name="b")], poi="mu")
    assert np.isnan(own.separation)
    assert own.samples["b"].sum() == 3
    assert own.edges[0] < 0.3 < own.edges[-1]


def test_separation_of_an_observable() -> None:
    x, labels = RNG.normal(0, 1, 100_000), np.arange(100_000) % 2
    assert histogram_separation(x, np.ones(100_000), labels) < 1e-3
    assert histogram_separation(x + 9 * labels, np.ones(100_000), labels) > 0.999
