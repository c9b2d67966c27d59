"""Networks that behave otherwise in training: batch statistics and dropout, as pure functions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PRNGKeyArray

from difana._typing import PyTree


def batch_statistics(net: PyTree) -> list[Any]:
    """Return the batch statistics of all Flax NNX modules in a network.

    They are what a training hands on from step to step (``memory`` of ``difana.train.minimise``),
    since a step is a pure function: see :func:`training_mode`.

    Args:
        net: A NNX module, or any PyTree that holds some.

    Returns:
        A PyTree: one state a module.
    """
    return [nnx.state(module, nnx.BatchStat) for module in _modules(net)]


def training_mode(
    net: PyTree, *, statistics: list[Any] | None = None, key: PRNGKeyArray | None = None
) -> PyTree:
    """Return a network as it is in one step of a training; the one given stays as it is.

    Batch normalisation takes mean and variance of the batch and moves the running ones, dropout
    leaves out. Inside a loss, where ``step`` and ``memory`` are those of the loop.

    Args:
        net: A Flax NNX module, or any PyTree that holds some.
        statistics: The batch statistics before the step; those of ``net`` by default.
        key: Random key of dropout: ``step.key``.

    Returns:
        The network. After its call :func:`batch_statistics` returns the new statistics.

    Example:
        >>> import optax
        >>> from difana.nn import trainable
        >>> from difana.train import RowSampler, minimise
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.norm = nnx.BatchNorm(1, momentum=0.5, rngs=rngs)
        ...         self.drop = nnx.Dropout(0.1, rngs=rngs)
        ...     def __call__(self, x):
        ...         return self.drop(self.norm(x))
        >>> def loss(net, batch, step, memory):
        ...     net = training_mode(net, statistics=memory, key=step.key)
        ...     return jnp.mean((net(batch) - 1.0) ** 2), {}, batch_statistics(net)
        >>> net = Net(nnx.Rngs(0))
        >>> x = jnp.array([[2.0], [4.0]], jnp.float32)
        >>> result = minimise(
        ...     loss, net, RowSampler(x, key=jax.random.key(0), size=2), steps=20,
        ...     optimizer=optax.sgd(0.1), key=jax.random.key(1), trained=trainable(net),
        ...     memory=batch_statistics(net))
        >>> found = evaluation_mode(result.trainable, statistics=result.memory)
        >>> round(float(found.norm.mean[...][0]), 2)  # the mean of the batches
        3.0
    """
    return _changed(net, statistics, key, training=True)


def evaluation_mode(net: PyTree, *, statistics: list[Any] | None = None) -> PyTree:
    """Return a network as it is after the training: no dropout, running batch statistics.

    Args:
        net: A Flax NNX module, or any PyTree that holds some.
        statistics: The batch statistics, such as the ``memory`` of the result of a training;
            those of ``net`` by default.

    Returns:
        The network; the one given stays as it is.
    """
    return _changed(net, statistics, None, training=False)


def _changed(
    net: PyTree, statistics: list[Any] | None, key: PRNGKeyArray | None, *, training: bool
) -> PyTree:
    fresh = jax.tree.map(lambda leaf: leaf, net)  # modules of its own
    for i, module in enumerate(_modules(fresh)):
        if training:
            module.train()
        else:
            module.eval()
        if statistics is not None:
            nnx.update(module, statistics[i])
        if key is not None:
            _reseed(module, jax.random.fold_in(key, i))
    return fresh


def _reseed(module: nnx.Module, key: PRNGKeyArray) -> None:
    """Give every random stream of the module a key of its own, at the start of its draws."""
    state = nnx.state(module, nnx.RngState)
    leaves, structure = jax.tree.flatten(state)

    def renewed(i: int, leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            words = jax.random.key_data(jax.random.fold_in(key, i))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        return jnp.zeros_like(leaf)

    new = [renewed(i, leaf) for i, leaf in enumerate(leaves)]
    nnx.update(module, jax.tree.unflatten(structure, new))


def _modules(net: PyTree) -> list[nnx.Module]:
    leaves = jax.tree.leaves(net, is_leaf=lambda node: isinstance(node, nnx.Module))
    return [leaf for leaf in leaves if isinstance(leaf, nnx.Module)]
