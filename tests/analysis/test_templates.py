"""Hard templates on the host against those of the graph."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.analysis.observables import Setting, View, baseline_edges, expectation
from difana.analysis.templates import (
    ObservedSample,
    Values,
    binned,
    check_channel,
    hard_channel,
    merge_empty,
    network_scores,
    observe,
    spread_last_bin,
)
from difana.data import (
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    WeightVariation,
    transformation,
)
from difana.hist import hard_histogram
from difana.infer import Inference
from difana.likelihood import build_model, channel_from_events


def events(seed: int, size: int, shift: float = 0.0) -> Events:
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, (size, 2)).astype(np.float32)
    return Events(jnp.asarray(x), jnp.asarray(rng.uniform(0.5, 1.5, size)), columns=("x", "y"))


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, ...]:
    signal = events(0, 300, 1.5)
    background = events(1, 500)
    scale = transformation("scale", {"x": "x * (1 + 0.1 * alpha)"}, ("x", "y"))
    return (
        Sample(signal, (scale,), name="s", normfactors=("mu",)),
        Sample(
            background,
            (
                scale,
                ShiftedEvents(up=events(2, 400, 0.1), down=events(3, 450, -0.1), name="shift"),
                WeightVariation(
                    up=background.weights * 1.1, down=background.weights * 0.9, name="weight"
                ),
                Normalisation(up=jnp.asarray(1.2), down=jnp.asarray(0.8), name="norm"),
            ),
            jnp.asarray(0.7),
            name="b",
        ),
    )


def net(x: jax.Array) -> jax.Array:
    return jnp.stack([x[:, 0] + 0.5 * x[:, 1], x[:, 1]], axis=1)


def observed(x: list[float], weights: list[float] | None = None, **keys) -> ObservedSample:
    values = Values(np.array(x), np.ones(len(x)) if weights is None else np.array(weights))
    return ObservedSample(keys.pop("name", "b"), values, **keys)


def test_equal_to_the_channel_of_the_graph(samples: tuple[Sample, ...]) -> None:
    edges = np.linspace(-2, 4, 6).astype(np.float32)
    own = hard_channel(observe(net, samples), edges, name="SR")
    other = channel_from_events(net, samples, edges=jnp.asarray(edges), bandwidth=None)
    order = {"mu": 0, "scale": 1, "shift": 2, "weight": 3, "norm": 4, "staterror_SR": 5}
    for a, b in zip(own.templates, other.templates, strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(a.values, b.values, rtol=1e-6)
        first, second = (sorted(t.modifiers, key=lambda m: order[m.name]) for t in (a, b))
        for m, n in zip(first, second, strict=True):
            assert (m.kind, m.name) == (n.kind, n.name)
            for x, y in zip(jax.tree.leaves(m), jax.tree.leaves(n), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-5)


def test_scores_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    whole = network_scores(net, features)
    monkeypatch.setattr("difana.analysis.templates._CHUNK", 64)
    np.testing.assert_array_equal(network_scores(net, features), whole)


def test_values_on_the_edges() -> None:
    values = Values(np.array([-1.0, 0.0, 0.5, 1.0, 9.0]), np.ones(5))
    edges = np.array([0.0, 0.5, 1.0])
    assert binned(values, edges)[0].tolist() == [2, 3]
    assert binned(values, edges, flow="drop")[0].tolist() == [1, 2]
    hard = hard_histogram(jnp.asarray(values.x), None, jnp.asarray(edges), flow="drop")
    assert hard.values().tolist() == [1, 2]


def test_spread_bins_hold_the_same_information(samples: tuple[Sample, ...]) -> None:
    seen = observe(net, samples)
    channel = hard_channel(seen, np.array([-2, 1, 6], np.float32), name="SR")
    plain = Inference(build_model([channel])).limits()
    spread = Inference(build_model([spread_last_bin(channel, 4)])).limits()
    np.testing.assert_allclose(spread.expected, plain.expected, rtol=1e-7)


def test_merged_bins() -> None:
    sample = observed([0.5, 1.5, 4.5])
    edges, merged = merge_empty([sample], np.arange(7.0), poi="mu")
    assert (edges.tolist(), merged) == ([0, 1, 4, 6], 3)
    edges, merged = merge_empty([observed([4.5])], np.arange(6.0), poi="mu")
    assert (edges.tolist(), merged) == ([0, 5], 4)
    # signal does not count, and a negative sum is no background
    signal = observed([0.5], name="s", normfactors=("mu",))
    negative = observed([0.5, 1.5], [-1.0, 3.0])
    edges, _ = merge_empty([signal, negative], np.arange(3.0), poi="mu")
    assert edges.tolist() == [0, 2]


def test_bad_templates_name_sample_region_and_bin() -> None:
    edges = np.arange(3.0)
    channel = hard_channel([observed([0.5, 1.5], [-5.0, 1.0])], edges, name="SR")
    with pytest.raises(InputError, match=r"region 'SR', sample 'b': the total yield is negative"):
        check_channel(channel, edges, poi="mu", remedy="")
    channel = hard_channel([observed([0.5, 1.5], [5.0, -1.0])], edges, name="SR")
    with pytest.raises(InputError, match=r"bin 1 \(1 to 2\): .* negative \('b': -1\)\. Fewer"):
        check_channel(channel, edges, poi="mu", remedy="Fewer.")


def test_network_that_diverged() -> None:
    sample = Sample(events(0, 5), name="s")
    with pytest.raises(InputError, match=r"sample 's'.*not finite.*Rate"):
        observe(lambda x: x * jnp.nan, [sample])


def test_edges_of_the_baselines(samples: tuple[Sample, ...]) -> None:
    seen = observe(net, samples)
    found = {name: choose() for name, choose in baseline_edges(seen, poi="mu", bins=4).items()}
    one, uniform, quantile, equal = found.values()
    x = np.concatenate([s.nominal.x for s in seen])
    for edges in found.values():
        assert edges[0] <= x.min()
        assert edges[-1] >= x.max()
        assert (np.diff(edges) > 0).all()
    assert len(one) == 2
    np.testing.assert_allclose(1 / (1 + np.exp(-uniform[1:-1])), [0.25, 0.5, 0.75], rtol=1e-6)
    signal, background = (s.nominal for s in seen)
    shares = np.histogram(signal.x, equal, weights=signal.weights)[0]
    np.testing.assert_allclose(shares, shares.mean(), rtol=0.02)
    both = sum(np.histogram(v.x, quantile, weights=v.weights)[0] for v in (signal, background))
    np.testing.assert_allclose(both, both.mean(), rtol=0.02)


def test_expectation_merges_and_says_so(samples: tuple[Sample, ...]) -> None:
    seen = observe(net, samples)
    on = Setting(poi="mu", bins={"SR": 3}, channels=(), parameters=(), staterror=True)
    top = float(max(s.nominal.x.max() for s in seen))
    found = expectation("x", [View("SR", seen, np.array([-9, 1, top + 1, top + 2]))], on=on)
    assert found.bins == {"SR": 2}
    assert "1 bin(s) without background" in found.notes[0]
    assert found.limits[0] < found.median < found.limits[4]
    assert (found.status, len(found.cls)) == ("ok", 5)
    nothing = ObservedSample("b", Values(seen[1].nominal.x, -seen[1].nominal.weights))
    bad = expectation("x", [View("SR", (seen[0], nothing), np.array([-9, 9]))], on=on)
    assert np.isnan(bad.median)
    assert "background yield is -" in bad.status
