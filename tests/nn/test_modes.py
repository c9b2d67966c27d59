"""Batch statistics and dropout as pure functions of memory and key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from difana.nn import Standardised, batch_statistics, evaluation_mode, trainable, training_mode

X = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, size=(64, 2)), jnp.float32)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.BatchNorm(2, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.drop(self.norm(x)))


def wrapped():
    return Standardised(Net(), np.zeros(2, np.float32), np.ones(2, np.float32))


def test_statistics_move_in_training_only():
    net = wrapped()
    before = batch_statistics(net)
    moving = training_mode(net, key=jax.random.key(0))
    moving(X)
    (after,) = batch_statistics(moving)
    np.testing.assert_allclose(after["norm"]["mean"][...], 0.1 * X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after["norm"]["var"][...], 0.9 + 0.1 * X.var(0), rtol=1e-5)
    for old, now in zip(*map(jax.tree.leaves, (before, batch_statistics(net))), strict=True):
        np.testing.assert_array_equal(old, now)  # of the network that was given
    still = evaluation_mode(net, statistics=[after])
    out = still(X)
    np.testing.assert_array_equal(out, still(X))
    mean, var = (np.asarray(after["norm"][name][...]) for name in ("mean", "var"))
    expected = still.net.linear(jnp.asarray((np.asarray(X) - mean) / np.sqrt(var + 1e-5)))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_a_function_of_the_key():
    net = Net()
    one, same, other = (training_mode(net, key=jax.random.key(seed))(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert float(jnp.mean(one != other)) > 0.5
    # two calls in one step draw twice
    twice = training_mode(net, key=jax.random.key(1))
    assert not np.array_equal(twice(X), twice(X))


def test_statistics_and_random_streams_are_not_trained():
    marks = trainable(wrapped())
    names = {jax.tree_util.keystr(path) for path, mark in
             jax.tree_util.tree_leaves_with_path(marks) if mark}  # fmt: skip
    assert {name.split(".value")[0].removeprefix(".net") for name in names} == {
        ".linear.bias", ".linear.kernel", ".norm.bias", ".norm.scale"
    }  # fmt: skip
