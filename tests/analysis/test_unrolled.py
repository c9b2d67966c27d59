"""Two-dimensional bins: the efficient score in slices of a second observable."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana import ConfigError
from difana.analysis import NetworkOptions, TrainingOptions, efficient_score_of, observe
from difana.analysis.best_bins import best_bins, cell_edges
from difana.analysis.desk import Desk
from difana.analysis.observable_of import described
from difana.analysis.optimise import optimise
from difana.analysis.question import log_objective, question_of
from difana.analysis.region_events import RegionEvents
from difana.analysis.trained import trained_of
from difana.analysis.unrolled import Unrolled, unroll
from difana.data import Events, Normalisation, Sample, WeightVariation
from difana.losses import ScorePlan


def split(seed, n=4000):
    """A signal that x tells, and a background whose slope in y is unknown."""
    rng = np.random.default_rng(seed)

    def events(mean, total):
        x = np.stack([rng.normal(mean, 1, n), rng.uniform(-1, 1, n)], axis=1)
        return Events(jnp.asarray(x, jnp.float32), jnp.full(n, total / n), columns=("x", "y"))

    back = events(0.0, 4000.0)
    bend = 0.5 * back.features[:, 1].astype(back.weights.dtype)
    slope = WeightVariation(
        up=back.weights * (1 + bend), down=back.weights * (1 - bend), name="slope"
    )
    norm = Normalisation(up=1.2, down=1 / 1.2, name="norm")
    return (
        Sample(events(1.0, 60.0), name="s", normfactors=("mu",)),
        Sample(back, (slope, norm), name="b"),
    )


def net(inputs):
    """The true log ratios of ``split``, in the order of its plan."""
    x, y = inputs[:, 0], inputs[:, 1]
    return jnp.stack([x - 0.5, jnp.log((1 + y / 2) / (1 - y / 2))], axis=1)


@pytest.fixture(scope="module")
def both():
    samples = split(1)
    score = efficient_score_of(net, samples, plan=ScorePlan.of(samples))
    return unroll(score, samples, second="slope", slices=4), samples


def test_slices_are_equal_parts_of_the_background_and_the_score_is_kept_inside(both):
    found, samples = both
    inputs = samples[1].nominal.inputs
    z, score = np.asarray(found(inputs))[:, 0], np.asarray(found.score(inputs))[:, 0]
    slices = np.digitize(z, found.breaks)
    np.testing.assert_allclose(np.bincount(slices), 1000, atol=2)
    np.testing.assert_allclose(found.cuts, np.arctanh([-0.25, 0.0, 0.25]), atol=0.03)
    for k in range(4):
        assert np.ptp((z - score)[slices == k]) < 1e-4  # the score, moved
    y = np.asarray(inputs)[:, 1]
    assert all(y[slices == k].max() <= y[slices == k + 1].min() + 1e-6 for k in range(3))


def test_each_slice_gets_cells_and_its_boundary_is_an_edge(both):
    found, samples = both
    grid = cell_edges(observe(found, samples), poi="mu", bins=4, breaks=tuple(found.breaks))
    assert np.isin(found.breaks.astype(grid.dtype), grid).all()
    assert (np.histogram(grid, [-np.inf, *found.breaks, np.inf])[0] > 100).all()


def test_a_shape_that_two_dimensions_measure_costs_less(both):
    """Slices in y constrain its slope; here the slope does nothing to x."""
    _, samples = both
    other = split(2)

    def sloped(inputs):  # an observable that the slope moves
        return (inputs[:, :1] + inputs[:, 1:]) / 1.4

    score = dataclasses.replace(
        efficient_score_of(net, samples, plan=ScorePlan.of(samples)), mix=np.array([[1.0, 0, 0]])
    )
    options = TrainingOptions()
    judge = log_objective(options)
    limits = []
    for own in (sloped, unroll(score, samples, second="slope", slices=3)):
        seen = [observe(own, part) for part in (samples, other)]
        region = RegionEvents("SR", tuple(samples), tuple(other))
        question = question_of(options, others=(), parameters=(), poi="mu")
        desk = Desk([region], question, options, staterror=True)
        breaks = tuple(own.breaks) if isinstance(own, Unrolled) else ()
        bins = best_bins(seen, judge, bins=6, budget=40, breaks=breaks)
        limits.append(desk.candidate("given network and edges", [own], [bins.edges], [seen]).metric)
    assert limits[1] < limits[0] - 0.1


def test_the_candidate_is_kept_and_read_back(finished):
    found = trained_of(finished.out)
    sliced = next(c for c in found.optimised.candidates if isinstance(c.net, Unrolled))
    assert described(sliced.net)["slices"] == 3
    assert sliced.net.second == "slope"
    assert len(sliced.edges) == 4
    assert np.isfinite(sliced.metric)
    assert (finished.out / "weights_sliced.eqx").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second_observable": "slop"}, "no second observable 'slop': there are cross-entropy, "),
        ({"second_observable": "slope", "start": "cross-entropy"}, "Start: score"),
    ],
)
def test_what_cannot_be_a_second_observable_is_refused_at_once(changes, message):
    with pytest.raises(ConfigError, match=message):
        optimise(
            split(1, 50), split(2, 50), network=NetworkOptions(),
            training=TrainingOptions(**changes), key=jax.random.key(0), progress_bar=False,
        )  # fmt: skip


def test_a_second_observable_of_one_value_is_refused(both):
    found, samples = both
    with pytest.raises(ConfigError, match="'norm' has too few distinct values for 3 slices"):
        unroll(found.score, samples, second="norm", slices=3)
