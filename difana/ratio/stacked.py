"""Many networks of one kind as one PyTree: their weights have a leading axis."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._typing import PyTree
from difana.nn import trainable


def stacked_nets(
    make: Callable[[Array], PyTree],
    key: PRNGKeyArray,
    replicas: int | np.ndarray,
    *,
    ensemble: int = 1,
) -> PyTree:
    """Return ``make(key)`` for each replica, the trained leaves stacked; each row has its own key.

    Args:
        make: Function ``key -> net``.
        key: Random key.
        replicas: Number of replicas, or their numbers.
        ensemble: Networks a replica, one after the other on the leading axis.

    Example:
        >>> import jax
        >>> from difana.nn import MLP
        >>> nets = stacked_nets(lambda k: MLP(1, [], key=k), jax.random.key(0), 3)
        >>> nets.layers[0].kernel[...].shape
        (3, 1, 1)
    """
    numbers = np.arange(replicas) if isinstance(replicas, int) else np.asarray(replicas)
    every = (ensemble * numbers[:, None] + np.arange(ensemble)).ravel()
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.asarray(every))

    def leaves(own: Array) -> PyTree:
        net = make(own)
        return eqx.filter(net, trainable(net))

    one = make(keys[0])
    if len(keys) == 1:
        stacked = jax.tree.map(lambda leaf: leaf[None], eqx.filter(one, trainable(one)))
    else:
        try:
            stacked = jax.vmap(leaves)(keys)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            rows = [leaves(own) for own in keys]  # make looks at the numbers of its key
            stacked = jax.tree.map(lambda *row: jnp.stack(row), *rows)
    return eqx.combine(stacked, eqx.filter(one, trainable(one), inverse=True))


def logits(net: PyTree, x: PyTree) -> Float[Array, " rows"]:
    """Return one number a row; a network of several outputs gives its first."""
    out = net(x)
    return out[:, 0] if out.ndim == 2 else out


def evaluate(nets: PyTree, x: PyTree, level: Array | None = None) -> Float[Array, "nets rows"]:
    """Return the logits of stacked networks for all rows, some thousand rows at a time.

    Args:
        nets: What ``stacked_nets`` returns.
        x: Rows: an array or a PyTree of arrays, ``[rows, ...]``.
        level: With it the leaves of ``x`` are ``[levels, rows, ...]`` and a network looks at
            ``x[level]``, ``[nets]``.
    """
    weights, static = eqx.partition(nets, trainable(nets))
    axis = 0 if level is None else 1
    rows = jax.tree.leaves(x)[0].shape[axis]
    size = 8192
    if jax.default_backend() == "cpu":  # what the layers make of them should stay in its cache
        size = max(64, 2048 // len(jax.tree.leaves(weights)[0]))
    size = max(1, min(size, rows))
    chunks = -(-rows // size)

    def split(leaf: Array) -> Array:
        padding = [(0, chunks * size - rows if k == axis else 0) for k in range(leaf.ndim)]
        padded = jnp.pad(leaf, padding)
        cut = padded.reshape(*leaf.shape[:axis], chunks, size, *leaf.shape[axis + 1 :])
        return jnp.moveaxis(cut, axis, 0)

    def one(part: PyTree) -> Array:
        mapped = None
        if level is not None:
            part, mapped = jax.tree.map(lambda leaf: leaf[level], part), 0
        run = lambda w, now: logits(eqx.combine(w, static), now)  # noqa: E731
        return jax.vmap(run, in_axes=(0, mapped))(weights, part)

    out = jax.lax.map(one, jax.tree.map(split, x))
    return jnp.moveaxis(out, 0, 1).reshape(out.shape[1], -1)[:, :rows]


def log_mean(logit: Float[Array, "nets rows"], members: int) -> Float[Array, "replicas rows"]:
    """Return the logarithm of the mean ratio of the networks of each replica.

    Example:
        >>> two = jnp.log(jnp.array([[1.0], [3.0]]))
        >>> round(float(jnp.exp(log_mean(two, 2))[0, 0]), 5)
        2.0
    """
    if members == 1:
        return logit
    grouped = logit.reshape(-1, members, logit.shape[1])
    return jax.nn.logsumexp(grouped, axis=1) - jnp.log(jnp.asarray(members, logit.dtype))
