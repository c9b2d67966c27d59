from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana._numerics import third_party_promotion
from difana.flows import SplineFlow, fit_flow, spline_flow
from difana.flows._coupling import coupling
from difana.train import Training


@eqx.filter_jit
def log_prob(flow, x, given):
    return flow.log_prob(x, given)


def shaken(flow: SplineFlow) -> SplineFlow:
    """Return the flow with random weights, so that it is far from the identity."""
    leaves, rest = eqx.partition(flow, flow.trained())
    flat, structure = jax.tree.flatten(leaves)
    keys = jax.random.split(jax.random.key(7), len(flat))
    moved = [
        x + 0.4 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(flat, keys, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, moved), rest)


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal([3.0, -1.0, 0.0], [2.0, 0.5, 1.0], (200, 3)))
    return x, jnp.asarray(rng.normal(size=(200, 2)))


@pytest.fixture(scope="module")
def flow(columns):
    return shaken(spline_flow(*columns, key=jax.random.key(0), layers=3, bins=4, hidden=(8,)))


def test_it_starts_as_a_normal_distribution(columns):
    start = spline_flow(*columns, key=jax.random.key(0), layers=2, bins=4, hidden=(8,))
    x = np.asarray(columns[0])
    pulls = (x - x.mean(0)) / x.std(0)
    expected = -0.5 * (pulls**2 + np.log(2 * np.pi)).sum(1) - np.log(x.std(0)).sum()
    np.testing.assert_allclose(log_prob(start, *columns), expected, rtol=1e-6)


def test_masks_let_every_column_be_transformed():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(20, 5)))
    masks = spline_flow(x, x[:, :1], key=jax.random.key(0), layers=6, hidden=(4,)).masks
    assert not masks.all(axis=0).any()
    np.testing.assert_array_equal(masks[0::2], ~masks[1::2])
    assert len({tuple(row) for row in masks.tolist()}) == 6


def test_log_det_is_that_of_autodiff(flow, columns):
    x, given = columns

    @eqx.filter_jit
    def written_out(flow, x, context):
        def layers(one):
            values = (one - flow.mean) / flow.std
            leaves, _ = eqx.partition(flow.nets, eqx.is_array)

            def layer(values, net):
                with third_party_promotion():
                    return flow._layer(net, context).forward_and_log_det(values)[0], None

            return jax.lax.scan(layer, values, (leaves, jnp.asarray(flow.masks)))[0]

        z = layers(x)
        log_det = jnp.linalg.slogdet(jax.jacfwd(layers)(x))[1]
        return log_det - 0.5 * jnp.sum(z**2 + jnp.log(2 * jnp.pi))

    found = log_prob(flow, x, given)
    for i in range(3):
        expected = written_out(flow, x[i], flow._context(given)[i])
        np.testing.assert_allclose(found[i], expected, rtol=1e-6)


@pytest.mark.slow
def test_eager_is_jit(flow, columns):
    both = log_prob(flow, *columns)
    np.testing.assert_allclose(both, flow.log_prob(*columns), rtol=1e-6)


def test_draws_depend_on_the_event_only(flow, columns):
    _, given = columns
    sample = eqx.filter_jit(lambda f, g: f.sample(g, key=jax.random.key(1), samples=4, chunk=16))
    all_of_them = sample(flow, given)
    assert all_of_them.shape == (200, 4, 3)
    np.testing.assert_allclose(sample(flow, given[:7]), all_of_them[:7], rtol=1e-6)


def test_density_integrates_to_one_and_is_that_of_the_draws():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(100, 1)))
    one = shaken(spline_flow(x, x, key=jax.random.key(3), layers=2, bins=4, hidden=(8,)))
    grid = jnp.linspace(-8, 8, 4001)
    given = jnp.full((len(grid), 1), 0.7)
    density = np.asarray(jnp.exp(log_prob(one, grid[:, None], given)))
    step = float(grid[1] - grid[0])
    assert abs(density.sum() * step - 1) < 1e-4
    sample = eqx.filter_jit(lambda f, g: f.sample(g, key=jax.random.key(4), samples=20_000))
    draws = np.asarray(sample(one, given[:1])).ravel()
    cumulative = np.interp(np.sort(draws), grid, np.cumsum(density) * step)
    distance = np.abs(cumulative - np.linspace(0, 1, len(draws))).max()
    assert distance < 0.015  # Kolmogorov-Smirnov: 1.36 / sqrt(20000) at 5 %


@pytest.mark.slow
def test_training_finds_a_conditional_density():
    rng = np.random.default_rng(5)
    c = rng.uniform(-1, 1, 40_000)
    width = 0.1 + 0.2 * (c > 0)
    x = rng.normal(c**2, width)
    given, values = jnp.asarray(c)[:20_000, None], jnp.asarray(x)[:20_000, None]
    start = spline_flow(values, given, key=jax.random.key(0), layers=2, hidden=(32, 32))
    training = Training(epochs=20, batch_size=500)
    found = fit_flow(start, values, given, key=jax.random.key(1), training=training)
    law = -0.5 * ((x - c**2) / width) ** 2 - np.log(width) - 0.5 * np.log(2 * np.pi)
    new = slice(20_000, None)
    learnt = log_prob(found.flow, jnp.asarray(x)[new, None], jnp.asarray(c)[new, None])
    divergence = np.mean(law[new] - np.asarray(learnt))
    assert 0 < divergence < 0.05  # the width jumps at c = 0
    at = jnp.array([[-0.5], [0.5]])
    draws = np.asarray(found.flow.sample(at, key=jax.random.key(2), samples=4000))[..., 0]
    np.testing.assert_allclose(draws.mean(1), [0.25, 0.25], atol=0.04)
    np.testing.assert_allclose(draws.std(1), [0.1, 0.3], rtol=0.12)


def test_wrong_input_is_refused(flow, columns):
    x, given = columns
    key = jax.random.key(0)
    with pytest.raises(InputError, match="x has shape"):
        flow.log_prob(x[:, :2], given)
    with pytest.raises(InputError, match="the flow takes 2"):
        flow.sample(given[:, :1], key=key)
    with pytest.raises(ConfigError, match="layers = 0"):
        spline_flow(x, given, key=key, layers=0)
    with pytest.raises(InputError, match="columns of the same events"):
        spline_flow(x, given[:5], key=key)
    with pytest.raises(InputError, match="are not finite"):
        spline_flow(x.at[0, 0].set(jnp.nan), given, key=key)
    with pytest.raises(InputError, match="not finite"):
        fit_flow(flow, x.at[0, 0].set(jnp.inf), given, key=key)


def test_only_the_conditioners_are_trained(flow):
    trained, rest = eqx.partition(flow, flow.trained())
    assert len(jax.tree.leaves(trained)) == 4  # kernel and bias of two layers
    assert rest.mean is flow.mean
    assert dataclasses.is_dataclass(flow)


def test_a_coupling_follows_its_context_inside_and_is_the_identity_outside():
    """Two values, of which the first passes; the parameters are the sum of all that is given."""
    spread = jnp.linspace(-1.0, 1.0, 2 * 13)  # four bins: 3 x 4 + 1 parameters each

    def net(x):
        return jnp.sum(x, axis=-1, keepdims=True) * spread

    def through(second, context):
        layer = coupling(net, jnp.array([True, False]), jnp.array([context]), bound=3.0)
        with third_party_promotion():
            y, log_det = layer.forward_and_log_det(jnp.array([0.5, second]))
        assert float(y[0]) == 0.5
        return float(y[1]), float(log_det)

    for outside in (-7.0, 3.5, 30.0):
        assert through(outside, 1.0) == pytest.approx((outside, 0.0), abs=1e-9)
    inside, log_det = through(0.7, 1.0)
    assert abs(inside - 0.7) > 0.01
    assert abs(log_det) > 0.01
    assert abs(through(0.7, 2.0)[0] - inside) > 0.01
