from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.nn import PointEdgeTransformer


@pytest.fixture(scope="module")
def net():
    return PointEdgeTransformer(3, 8, blocks=1, key=jax.random.key(0), param_dtype=jnp.float64)


def test_order_and_padding_are_ignored(net, key):
    run = jax.jit(jax.value_and_grad(lambda n, x, mask: jnp.sum(n(x, mask) ** 2), argnums=0))
    one = lambda *inputs: np.asarray(run(net, *inputs)[0])  # noqa: E731
    particles = jax.random.normal(key, (4, 6, 3))
    mask = jnp.arange(6)[None] < jnp.array([[6], [2], [1], [0]])
    wanted = one(particles, mask)
    padded = jnp.where(mask[..., None], particles, jnp.nan)
    np.testing.assert_array_equal(one(padded, mask), wanted)
    order = jnp.array([3, 1, 4, 0, 5, 2])
    np.testing.assert_allclose(one(padded[:, order], mask[:, order]), wanted, rtol=1e-11)
    grads = run(net, padded, mask)[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    moved = particles.at[0, 0, 2].add(0.1)
    assert abs(one(moved, mask) - wanted) > 1e-9


def test_neighbours_are_the_nearest(key):
    net = PointEdgeTransformer(3, 4, blocks=1, neighbours=1, coordinates=1, key=key)
    x = jnp.array([[[0.0, 1, 1], [1.0, 2, 3], [10.0, 4, 4], [12.0, 0, 1]]])
    h, mask = net.embed(x), jnp.ones((1, 4), bool)
    found = net._neighbourhood(h, x[..., :1], mask)
    pairs = jnp.array([1, 0, 3, 2])
    expected = net.edges(jnp.concatenate([h, h[:, pairs] - h], axis=-1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    alone = net._neighbourhood(h, x[..., :1], jnp.array([[True, False, False, False]]))
    np.testing.assert_array_equal(alone[0, 0], 0)


def test_the_sum_knows_how_many_particles_there_are(key):
    twice = jnp.repeat(jax.random.normal(key, (1, 1, 3)), 2, axis=1)
    once = jnp.array([[True, False]])
    nets = [PointEdgeTransformer(3, 4, blocks=1, neighbours=0, pool=pool, key=key)
            for pool in ("sum", "mean")]  # fmt: skip
    for net, differs in zip(nets, (True, False), strict=True):
        change = float(jnp.max(jnp.abs(net(twice) - net(twice, once))))
        assert (change > 1e-3) == differs


def test_wrong_use_is_refused(net, key):
    with pytest.raises(ConfigError, match="heads = 3"):
        PointEdgeTransformer(3, 8, heads=3, key=key)
    with pytest.raises(ConfigError, match="coordinates = 4"):
        PointEdgeTransformer(3, 8, coordinates=4, key=key)
    with pytest.raises(ConfigError, match="'sum' or 'mean'"):
        PointEdgeTransformer(3, 8, pool="max", key=key)
    with pytest.raises(InputError, match=r"\[events, particles, 3\]"):
        net(jnp.ones((2, 4, 2)))
    with pytest.raises(InputError, match="does not fit"):
        net(jnp.ones((2, 4, 3)), jnp.ones((2, 3), bool))
