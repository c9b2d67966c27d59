"""The gradient of the expected limit, from network weights to bin edges, against differences."""

from __future__ import annotations

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.data import Events, Normalisation, Sample, Transformation
from difana.likelihood import build_model, channel_from_events
from difana.losses import cross_entropy, expected_limit
from difana.nn import MLP

STEP = 1e-5


def scale(features, alpha):
    return features * (1 + 0.05 * alpha)


def sample(name, centre, total, key, **options):
    features = centre + jax.random.normal(key, (200, 2))
    events = Events(features, jnp.full(200, total / 200), columns=("x", "y"))
    shift = Transformation(function=scale, name="scale")
    return Sample(events, (shift, *options.pop("more", ())), name=name, **options)


@pytest.fixture(scope="module")
def problem():
    one, two, three = jax.random.split(jax.random.key(0), 3)
    norm = Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.9), name="norm")
    samples = (
        sample("signal", 1.0, 20.0, one, normfactors=("mu",)),
        sample("background", -1.0, 100.0, two, more=(norm,)),
    )
    net = MLP(2, (8,), 1, param_dtype=jnp.float64, key=three)
    scores = np.concatenate([net(s.nominal.features)[:, 0] for s in samples])
    edges = jnp.asarray(np.quantile(scores, [0.0, 0.3, 0.6, 0.85, 1.0]))
    return net, samples, edges


@pytest.fixture(scope="module")
def compiled(problem):
    _, samples, _ = problem

    def limit(net, edges, bandwidth, weights):
        background = samples[1]
        events = background.nominal.with_weights(weights)
        varied = eqx.tree_at(lambda s: s.nominal, background, events)
        return expected_limit(net, (samples[0], varied), edges=edges, bandwidth=bandwidth)[0]

    return eqx.filter_jit(limit), eqx.filter_jit(eqx.filter_grad(lambda args: limit(*args)))


@pytest.mark.parametrize("which", ["network", "edges", "bandwidth", "weights"])
def test_gradient_of_the_limit(problem, compiled, which):
    net, samples, edges = problem
    value, gradient = compiled
    arguments = (net, edges, jnp.asarray(0.1), samples[1].nominal.weights)
    slopes = gradient(arguments)
    chex.assert_tree_all_finite(jax.tree.leaves(eqx.filter(slopes, eqx.is_array)))
    position = ["network", "edges", "bandwidth", "weights"].index(which)
    leaves, structure = jax.tree.flatten(arguments[position])
    directions = jax.tree.leaves(slopes[position])
    norm = np.sqrt(sum(float(jnp.sum(d**2)) for d in directions))
    assert norm > 0

    def moved(sign):
        new = [x + sign * STEP * d / norm for x, d in zip(leaves, directions, strict=True)]
        changed = list(arguments)
        changed[position] = jax.tree.unflatten(structure, new)
        return float(value(*changed))

    assert (moved(1) - moved(-1)) / (2 * STEP) == pytest.approx(norm, rel=1e-6)


def test_gradient_in_every_template(problem):
    net, samples, edges = problem
    channel = channel_from_events(net, samples, edges=edges, bandwidth=0.1)
    from difana.infer import expected_limits

    limit = eqx.filter_jit(lambda m: expected_limits(m, median_only=True).median)
    model = build_model([channel])
    slopes = eqx.filter_jit(jax.grad(lambda m: expected_limits(m, median_only=True).median))(model)
    names = ("nominal", "histosys_hi", "histosys_lo", "normsys_hi", "normsys_lo", "staterror")
    for name in names:
        for i in range(getattr(model, name).size):

            def at(step, name=name, i=i):
                values = getattr(model, name).at[i].add(step)
                return float(limit(eqx.tree_at(lambda m: getattr(m, name), model, values)))

            numeric = (at(STEP) - at(-STEP)) / (2 * STEP)
            own = float(getattr(slopes, name)[i])
            assert own == pytest.approx(numeric, rel=1e-4, abs=1e-8), (name, i)


def test_cross_entropy_against_numpy(problem):
    net, samples, _ = problem
    value, _ = cross_entropy(net, samples)
    signal, background = (np.asarray(net(s.nominal.features)[:, 0]) for s in samples)
    expected = 0.5 * (np.log1p(np.exp(-signal)).mean() + np.log1p(np.exp(background)).mean())
    assert float(value) == pytest.approx(expected, rel=1e-12)
