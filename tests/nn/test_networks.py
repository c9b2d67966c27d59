from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from difana._errors import ConfigError, InputError
from difana._numerics import third_party_promotion
from difana.nn import MLP, DeepSets, Standardised, activation, trainable


def mlp(key, **options):
    return MLP(3, [8, 8], 2, key=key, param_dtype=jnp.float64, activation="tanh", **options)


def linen_network(key):
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            with third_party_promotion():
                return linen.Dense(2)(jnp.tanh(linen.Dense(8)(x)))

    net = Net()
    return jax.tree_util.Partial(net.apply, net.init(key, jnp.ones((1, 3))))


NETWORKS = {
    "nnx": mlp,
    "standardised": lambda key: Standardised(mlp(key), np.array([1.0, 2, 3]), np.full(3, 2.0)),
    "equinox": lambda key: jax.tree_util.Partial(
        lambda net, x: jax.vmap(net)(x), eqx.nn.MLP(3, 2, 8, 1, activation=jnp.tanh, key=key)
    ),
    "linen": linen_network,
}


def loss(net, x):
    return jnp.mean(net(x) ** 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_any_callable_pytree_is_a_network(name, key):
    net = NETWORKS[name](key)
    x = jax.random.normal(jax.random.key(1), (6, 3))
    assert net(x).shape == (6, 2)
    params, static = eqx.partition(net, trainable(net))

    def objective(params):
        return loss(eqx.combine(params, static), x)

    grads = jax.jit(jax.grad(objective))(params)
    direction = jax.tree.map(lambda p: jax.random.normal(key, p.shape, p.dtype), params)
    slope = sum(
        jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (grads, direction)), strict=True)
    )
    step = 1e-3 if any(p.dtype == jnp.float32 for p in jax.tree.leaves(params)) else 1e-6

    def along(t):
        return objective(jax.tree.map(lambda p, d: p + t * d, params, direction))

    difference = (along(step) - along(-step)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-3 if step > 1e-5 else 1e-7)
    assert abs(slope) > 1e-4


def test_mlp_is_a_pytree_of_its_weights(key):
    net = mlp(key)
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(net))
    assert shapes == sorted([(3, 8), (8,), (8, 8), (8,), (8, 2), (2,)])
    x = jax.random.normal(key, (5, 3))
    np.testing.assert_allclose(jax.jit(lambda n, x: n(x))(net, x), net(x), rtol=1e-12)
    rows = jnp.stack([net(row) for row in x])
    np.testing.assert_allclose(jax.vmap(net)(x), rows, rtol=1e-12)

    def descend(n, _):
        return jax.tree.map(lambda a, g: a - 0.1 * g, n, jax.grad(loss)(n, x)), loss(n, x)

    _, losses = jax.lax.scan(descend, net, None, length=5)
    assert losses[-1] < losses[0]


def test_mlp_agrees_with_the_formula(key):
    net = mlp(key)
    kernels = [np.asarray(layer.kernel[...]) for layer in net.layers]
    x = np.array([[0.3, -1.0, 2.0]])
    by_hand = np.tanh(np.tanh(x @ kernels[0]) @ kernels[1]) @ kernels[2]
    np.testing.assert_allclose(net(jnp.asarray(x)), by_hand, rtol=1e-12)
    assert (by_hand < 0).any() or (by_hand > 1).any()


def test_initialisation_follows_the_key():
    first, again, other = (MLP(3, key=jax.random.key(k)) for k in (0, 0, 1))
    assert all(map(jnp.array_equal, jax.tree.leaves(first), jax.tree.leaves(again)))
    assert not jnp.array_equal(first.layers[0].kernel[...], other.layers[0].kernel[...])


def test_types(key):
    net = MLP(3, [4], key=key)
    assert net(jnp.ones((2, 3), jnp.float32)).dtype == jnp.float32
    assert net(jnp.ones((2, 3), jnp.float64)).dtype == jnp.float64
    low = MLP(3, [4], key=key, dtype=jnp.bfloat16)
    assert low(jnp.ones((2, 3))).dtype == jnp.bfloat16
    assert low.layers[0].kernel.dtype == jnp.float32


def test_mlp_refuses_wrong_input(key):
    with pytest.raises(InputError, match="takes 3 features, the events have 4"):
        mlp(key)(jnp.ones((2, 4)))
    with pytest.raises(ConfigError, match="Did you mean 'relu'"):
        MLP(3, activation="rellu", key=key)
    with pytest.raises(ConfigError, match="positive"):
        MLP(3, [0], key=key)
    assert activation("gelu") is jax.nn.gelu


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_deep_sets_ignores_order_and_padding(pool, key):
    net = DeepSets(2, [8], latent=4, pool=pool, key=key, param_dtype=jnp.float64)
    net = jax.tree.map(lambda leaf: leaf + 0.1, net)  # biases of zero would hide the padding
    particles = jax.random.normal(key, (3, 5, 2))
    mask = jnp.arange(5)[None] < jnp.array([[5], [2], [0]])
    wanted = net(particles, mask)
    padded = jnp.where(mask[..., None], particles, jnp.nan)
    np.testing.assert_array_equal(net(padded, mask), wanted)
    order = jnp.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(net(padded[:, order], mask[:, order]), wanted, rtol=1e-12)
    np.testing.assert_allclose(net(jnp.where(mask[..., None], particles, 0)), wanted, rtol=1e-12)
    longer = jnp.pad(padded, ((0, 0), (0, 3), (0, 0)))
    np.testing.assert_allclose(net(longer, jnp.pad(mask, ((0, 0), (0, 3)))), wanted, rtol=1e-12)
    grads = jax.grad(lambda n: jnp.sum(n(padded, mask) ** 2))(net)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert float(jnp.abs(wanted[0] - wanted[1]).max()) > 1e-6


def test_deep_sets_pools_as_it_says(key):
    one = jax.random.normal(key, (1, 1, 2))
    two = jnp.repeat(one, 2, axis=1)
    mean, total = (DeepSets(2, [8], pool=pool, key=key) for pool in ("mean", "sum"))
    np.testing.assert_allclose(mean(two), mean(one), rtol=1e-6)
    assert not jnp.allclose(total(two), total(one))


def test_deep_sets_refuses_wrong_input(key):
    net = DeepSets(2, [4], key=key)
    with pytest.raises(InputError, match=r"\[events, particles, 2\]"):
        net(jnp.ones((3, 5, 4)))
    with pytest.raises(InputError, match="mask"):
        net(jnp.ones((3, 5, 2)), jnp.ones((3, 4), dtype=bool))
    with pytest.raises(ConfigError, match="'max'"):
        DeepSets(2, [4], pool="max", key=key)


def test_standardised_measures_weighted_moments():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(5.0, 3.0, 4000), rng.uniform(0, 1e6, 4000), np.full(4000, 7.3)])
    w = rng.uniform(0.5, 2.0, 4000) * rng.choice([1, -1], 4000, p=[0.9, 0.1])
    net = Standardised.fit(lambda z: z, jnp.asarray(x), jnp.asarray(w))
    z = np.asarray(net(jnp.asarray(x)))
    np.testing.assert_allclose(np.average(z, axis=0, weights=abs(w)), 0, atol=1e-9)
    np.testing.assert_allclose(np.average(z[:, :2] ** 2, axis=0, weights=abs(w)), 1, rtol=1e-9)
    assert net.std[2] == 1.0


def test_standardised_constants_are_not_trained(key):
    net = Standardised.fit(mlp(key), jax.random.normal(key, (10, 3)) * 3 + 1)
    weights, rest = eqx.partition(net, trainable(net))
    assert weights.mean is None
    assert weights.std is None
    assert len(jax.tree.leaves(weights)) == len(jax.tree.leaves(net.net)) == 6
    assert eqx.tree_equal(eqx.combine(weights, rest), net)
    deeper = Standardised(net, net.mean, net.std)
    assert eqx.tree_equal(eqx.filter({"a": deeper}, trainable({"a": deeper}))["a"].net, weights)
    x = jax.random.normal(key, (4, 3))
    mean, std = jnp.asarray(net.mean), jnp.asarray(net.std)
    grads = jax.grad(lambda mean, std: loss(Standardised(net.net, mean, std), x), (0, 1))(mean, std)
    np.testing.assert_array_equal(grads, 0)


def test_standardised_keeps_the_type_of_the_input(key):
    net = Standardised(MLP(3, [4], key=key), np.zeros(3), np.ones(3))
    assert net(jnp.ones((2, 3), jnp.float32)).dtype == jnp.float32


def test_standardised_refuses_bad_events():
    with pytest.raises(InputError, match=r"features \[1\] are not finite"):
        Standardised.fit(lambda z: z, jnp.array([[1.0, jnp.nan]]))
    with pytest.raises(InputError, match="not all zero"):
        Standardised.fit(lambda z: z, jnp.ones((2, 1)), jnp.zeros(2))
    with pytest.raises(InputError, match=r"shape \(0, 1\)"):
        Standardised.fit(lambda z: z, jnp.ones((0, 1)))
