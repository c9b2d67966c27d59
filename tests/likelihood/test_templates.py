"""Events to templates: hard ones are NumPy histograms, soft ones differentiable."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from difana._errors import InputError
from difana.data import (
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
)
from difana.hist import soft_histogram
from difana.likelihood import all_scores, build_model, channel_from_events

EDGES = np.array([-1.0, 0.0, 0.5, 2.0])
WEIGHTS = np.array([[0.8], [-0.5]])


def net(x):
    return x @ jnp.asarray(WEIGHTS, x.dtype)


def scale(x, alpha):
    return x * (1.0 + 0.1 * alpha) + 0.05 * alpha


def arrays(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(0.2, 1.0, (n, 2)), rng.uniform(-0.2, 1.5, n)


def events(n, seed, dtype=np.float64):
    x, w = arrays(n, seed)
    return Events(jnp.asarray(x, dtype), jnp.asarray(w, dtype))


def samples(dtype=np.float64):
    """A signal and a background with one variation of each kind; not all of equal length."""
    _, other = arrays(30, 5)
    variations = (
        Transformation(function=scale, name="scale"),
        ShiftedEvents(up=events(25, 3, dtype), down=events(30, 4, dtype), name="shower"),
        WeightVariation(
            up=jnp.asarray(other, dtype),
            down=jnp.asarray(other[::-1].copy(), dtype),
            name="pdf",
        ),
        Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.95), name="xsec"),
    )
    signal = Sample(events(20, 1, dtype), name="signal", normfactors=("mu", "k"))
    return (signal, Sample(events(30, 2, dtype), variations, 0.25, name="background"))


def numpy_histogram(x, w):
    score = np.clip((x @ WEIGHTS)[:, 0], EDGES[0], EDGES[-1])  # overflow goes to the edge bins
    return np.histogram(score, EDGES, weights=w)[0]


def test_hard_templates_are_numpy_histograms():
    channel = channel_from_events(net, samples(), edges=jnp.asarray(EDGES), bandwidth=None)
    signal, background = channel.templates
    assert (channel.name, signal.name, background.name) == ("SR", "signal", "background")
    assert [(m.kind, m.name) for m in signal.modifiers] == [
        ("normfactor", "mu"),
        ("normfactor", "k"),
        ("staterror", "staterror_SR"),
    ]
    assert [(m.kind, m.name) for m in background.modifiers] == [
        ("histosys", "scale"),
        ("histosys", "shower"),
        ("histosys", "pdf"),
        ("normsys", "xsec"),
        ("staterror", "staterror_SR"),
    ]
    x, w = arrays(20, 1)
    np.testing.assert_allclose(signal.values, numpy_histogram(x, w))
    np.testing.assert_allclose(signal.modifiers[2].uncertainty, np.sqrt(numpy_histogram(x, w**2)))
    x, w = arrays(30, 2)
    shift, shower, pdf, xsec, stat = background.modifiers
    np.testing.assert_allclose(background.values, numpy_histogram(x, w))
    np.testing.assert_allclose(shift.hi, numpy_histogram(scale(x, 1.0), w))
    np.testing.assert_allclose(shift.lo, numpy_histogram(scale(x, -1.0), w))
    np.testing.assert_allclose(shower.hi, numpy_histogram(*arrays(25, 3)))
    np.testing.assert_allclose(shower.lo, numpy_histogram(*arrays(30, 4)))
    other = arrays(30, 5)[1]
    np.testing.assert_allclose(pdf.hi, numpy_histogram(x, other))
    np.testing.assert_allclose(pdf.lo, numpy_histogram(x, other[::-1]))
    assert (float(xsec.hi), float(xsec.lo)) == (1.1, 0.95)
    # a variance scale of 1/4 halves the uncertainty
    np.testing.assert_allclose(stat.uncertainty, np.sqrt(0.25 * numpy_histogram(x, w**2)))


def test_soft_templates_are_soft_histograms():
    edges, bandwidth = jnp.asarray(EDGES), 0.3
    channel = channel_from_events(
        net, samples(), edges=edges, bandwidth=bandwidth, name="CR", staterror=False
    )
    background = channel.templates[1]
    assert [m.kind for m in background.modifiers] == ["histosys"] * 3 + ["normsys"]
    x, w = arrays(30, 2)

    def soft(x, w):
        histogram = soft_histogram(
            net(jnp.asarray(x))[:, 0], jnp.asarray(w), edges, bandwidth=bandwidth
        )
        return histogram.contents

    np.testing.assert_allclose(background.values, soft(x, w), rtol=1e-12)
    np.testing.assert_allclose(background.modifiers[0].lo, soft(scale(x, -1.0), w), rtol=1e-12)
    np.testing.assert_allclose(background.modifiers[1].hi, soft(*arrays(25, 3)), rtol=1e-12)


def test_any_network_gives_the_same_templates():
    linear = nnx.Linear(2, 1, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    linear.kernel[...] = jnp.asarray(WEIGHTS)
    layer = eqx.tree_at(
        lambda m: m.weight,
        eqx.nn.Linear(2, 1, use_bias=False, key=jax.random.key(0)),
        jnp.asarray(WEIGHTS.T),
    )
    networks = (net, linear, jax.vmap(layer))
    channels = [
        channel_from_events(n, samples(), edges=jnp.asarray(EDGES), bandwidth=0.2) for n in networks
    ]
    for other in channels[1:]:
        for ours, theirs in zip(*map(jax.tree.leaves, (channels[0], other)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("bandwidth", [None, 0.2])
def test_float32_events_give_a_float64_model(bandwidth):
    batch = samples(np.float32)
    edges = jnp.asarray(EDGES)
    model = build_model([channel_from_events(net, batch, edges=edges, bandwidth=bandwidth)])
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype(jnp.float64)}
    full = build_model([channel_from_events(net, samples(), edges=edges, bandwidth=bandwidth)])
    np.testing.assert_allclose(model.nominal, full.nominal, rtol=1e-5)


def test_all_scores_are_those_of_every_block_in_one_pass():
    calls = []

    def counting(x):
        calls.append(x.shape)
        return net(x)

    scores = all_scores(counting, samples())
    # signal; background, twice the transformation, up and down events, other weights
    assert [[x.shape[0] for _, x in own] for own in scores] == [[20], [30, 30, 30, 25, 30, 30, 30]]
    kinds = ["", "scale", "scale", "shower", "shower", "pdf", "pdf"]
    assert [row.name for row, _ in scores[1]] == kinds
    assert scores[1][0][1] is scores[1][5][1]  # other weights of the same events
    assert calls == [(165, 2)]
    np.testing.assert_allclose(scores[0][0][1], (arrays(20, 1)[0] @ WEIGHTS)[:, 0])


def test_templates_inside_jit_are_those_outside():
    edges = jnp.asarray(EDGES)

    def nominal(batch, bandwidth):
        return build_model([channel_from_events(net, batch, edges=edges, bandwidth=bandwidth)])

    outside = nominal(samples(), 0.2)
    inside = eqx.filter_jit(nominal)(samples(), jnp.asarray(0.2))
    assert inside.structure == outside.structure
    for ours, theirs in zip(*map(jax.tree.leaves, (inside, outside)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_samples_of_no_events_give_empty_templates():
    empty = Sample(Events(jnp.zeros((0, 2)), jnp.zeros(0)), name="none", normfactors=("mu",))
    channel = channel_from_events(
        net, (empty, samples()[1]), edges=jnp.asarray(EDGES), bandwidth=0.2
    )
    np.testing.assert_array_equal(channel.templates[0].values, np.zeros(3))


@pytest.mark.parametrize(
    ("network", "batch", "message"),
    [
        (net, (), "no samples"),
        (lambda x: x[:, 0], None, r"returned \(165,\); it must return \[events, observables\]"),
    ],
)
def test_wrong_input(network, batch, message):
    batch = samples() if batch is None else batch
    with pytest.raises(InputError, match=message):
        channel_from_events(network, batch, edges=jnp.asarray(EDGES), bandwidth=0.2)
