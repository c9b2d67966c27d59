"""Which input matters: closed forms, finite differences, and a network that ignores inputs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from difana import plot
from difana._errors import InputError
from difana.analysis import (
    gradient_importance,
    importance,
    observable_profiles,
    shuffle_importance,
    stretch_importance,
)
from difana.data import Events, Sample, ShiftedEvents, Transformation
from difana.likelihood import Channel, channel_from_events

COLUMNS = ("strong", "weak", "ignored")
EDGES = np.array([-20.0, 0.0, 1.0, 2.0, 20.0], np.float32)


def net(x):
    return x[:, :1] + 0.3 * x[:, 1:2]


def purity(channel: Channel):
    """A smooth objective without fits: minus the separation of two histograms."""
    s, b = (jnp.asarray(t.values) for t in channel.templates)
    return -jnp.sum((s - b) ** 2 / (s + b + 1e-9))


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(4)
    found = []
    for name, shift in (("signal", 1.5), ("background", 0.0)):
        x = rng.normal(0, 1, (600, 3)).astype(np.float32)
        x[:, :2] += shift
        x[:, 2] *= 5
        w = jnp.asarray(rng.uniform(0.5, 1.5, 600).astype(np.float32))
        nominal = Events(jnp.asarray(x), w, columns=COLUMNS)
        up, down = (nominal.with_features(nominal.features * f) for f in (1.1, 0.9))
        variations = (
            ShiftedEvents(up=up, down=down, name="scale"),
            Transformation(function=lambda x, alpha: x + 0.1 * alpha, name="offset"),
        )
        factors = ("mu",) if name == "signal" else ()
        found.append(Sample(nominal, variations, name=name, normfactors=factors))
    return tuple(found)


def test_gradients_of_a_linear_observable(samples):
    x = np.stack([np.asarray(s.nominal.features, float) for s in samples])
    w = np.stack([np.asarray(s.nominal.weights, float) for s in samples])
    p = w / w.sum(axis=1, keepdims=True) / 2
    mean = np.einsum("se,sef->f", p, x)
    sigma = np.sqrt(np.einsum("se,sef->f", p, (x - mean) ** 2))
    found = gradient_importance(net, samples)
    assert found[0] == pytest.approx(sigma * [1.0, 0.3, 0.0], rel=1e-4)
    assert found[1] == pytest.approx(found[0])


def test_gradients_of_events_without_weight_do_not_count(samples):
    nominals = [Sample(s.nominal.with_weights(s.nominal.weights.at[200:].set(0)), name=s.name)
                for s in samples]  # fmt: skip
    kept = [Sample(s.nominal.take(np.arange(200)), name=s.name) for s in samples]
    found, wanted = (gradient_importance(lambda x: x[:, :1] ** 3, own) for own in (nominals, kept))
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)


def test_stretch_against_finite_differences(samples):
    options = {"edges": EDGES, "bandwidth": 0.4}
    found = stretch_importance(net, samples, purity, **options)
    x = np.stack([np.asarray(s.nominal.features, float) for s in samples])
    w = np.stack([np.asarray(s.nominal.weights, float) for s in samples])
    mean = np.einsum("se,sef->f", w / w.sum(axis=1, keepdims=True) / 2, x).astype(np.float32)

    def value(column, step):
        scale = np.ones(3, np.float32)
        scale[column] += step
        own = channel_from_events(
            lambda x: net(mean + scale * (x - mean)), samples, edges=jnp.asarray(EDGES),
            bandwidth=0.4,
        )  # fmt: skip
        return float(purity(own))

    for column in (0, 1):
        slope = (value(column, 0.02) - value(column, -0.02)) / 0.04
        assert found[column] == pytest.approx(slope, rel=0.02)
    assert found[2] == 0


def test_shuffling_takes_away_what_the_network_uses(samples):
    score, rise = shuffle_importance(net, samples, lambda c: float(purity(c)), edges=EDGES)
    assert rise[2] == 0
    assert rise[0] > 3 * rise[1] > 0
    # without both inputs nothing is left to gain
    assert rise[0] < -score
    again = shuffle_importance(net, samples, lambda c: float(purity(c)), edges=EDGES)
    assert again[1].tolist() == rise.tolist()
    # several shuffles are averaged
    mean = shuffle_importance(net, samples, lambda c: float(purity(c)), edges=EDGES, repeats=4)[1]
    assert mean[:2] == pytest.approx(rise[:2], rel=0.5)


def test_shuffled_values_come_from_all_samples_alike(samples):
    """A one-input observable: after shuffling both templates agree within statistics."""
    seen = []

    def look(channel):
        seen.append([np.asarray(t.values) / np.sum(t.values) for t in channel.templates])
        return 0.0

    shuffle_importance(lambda x: x[:, :1], samples, look, edges=EDGES)
    (s0, b0), (s1, b1) = seen[0], seen[1]
    assert np.abs(s0 - b0).max() > 0.3
    assert s1 == pytest.approx(b1, abs=0.09)
    assert s1 == pytest.approx((s0 + b0) / 2, abs=0.09)


def test_shifted_events_get_the_values_of_the_nominal_ones(samples):
    """What is shuffled does not vary any more: up and down are the nominal template."""
    seen = []

    def look(channel):
        for template in channel.templates:
            (scale,) = (m for m in template.modifiers if m.name == "scale")
            sides = (np.asarray(side) for side in (scale.hi, scale.lo))
            seen.append(max(np.abs(side - np.asarray(template.values)).max() for side in sides))
        return 0.0

    shuffle_importance(lambda x: x[:, :1], samples, look, edges=EDGES)
    before, shuffled = seen[:2], seen[2:4]  # then come the inputs that the network ignores
    assert min(before) > 1
    assert max(shuffled) < 1e-3


def test_all_measures_at_once(samples):
    found = importance(net, samples, edges=EDGES, objective=purity)
    assert found.columns == COLUMNS
    for values in (found.gradient, found.shuffled):
        assert np.argmax(values) == 0
        assert values[2] == 0
    assert found.stretch[2] == 0
    assert importance(net, samples).stretch is None
    with pytest.raises(InputError, match="together"):
        importance(net, samples, edges=EDGES)


def test_profiles_against_a_loop(samples):
    found = observable_profiles(net, samples, bins=4)
    assert [p.column for p in found] == list(COLUMNS)
    profile = found[1]
    x, w = (np.asarray(p, float) for p in (samples[0].nominal.features, samples[0].nominal.weights))
    y = np.asarray(net(samples[0].nominal.features))[:, 0].astype(float)
    for b in range(4):
        last = b == 3
        inside = (x[:, 1] >= profile.edges[b]) & (
            (x[:, 1] <= profile.edges[b + 1]) if last else (x[:, 1] < profile.edges[b + 1])
        )
        mean = np.average(y[inside], weights=w[inside])
        assert profile.mean[0, b] == pytest.approx(mean, rel=1e-6)
        spread = np.sqrt(np.average((y[inside] - mean) ** 2, weights=w[inside]))
        assert profile.spread[0, b] == pytest.approx(spread, rel=1e-6)


def test_pictures(samples):
    found = importance(net, samples, edges=EDGES, objective=purity)
    axes = plot.importance(found, title="inputs").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()][-1] == "strong"
    figure = plot.profile(observable_profiles(net, samples, bins=4)[0])
    assert figure.axes[0].get_xlabel() == "strong"
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["signal", "background"]
