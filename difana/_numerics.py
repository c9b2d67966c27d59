"""Guarded numerics shared by all rooms."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped

one_program = functools.partial(jax.jit, inline=True)
"""Outside of a program a function is one small program, not one for each of its operations, whose
compilation is most of the time of short scripts; inside of one it is as if it were not there."""

_STRIPES = 8192  # most partial sums of a segment
_TABLE = 2**17  # most partial sums of all segments: they stay in the cache
_BLOCK = 4096  # events that one matrix product adds up


def traced(*trees: Any) -> bool:
    """Return True if any number is a tracer: inside jit, vmap or a derivative."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def enable_x64() -> None:
    """Switch JAX to 64-bit numbers: the statistical part needs them.

    Called by the command line, never at import. Call it before the first array is made.

    Example:
        >>> import difana
        >>> difana.enable_x64()
    """
    jax.config.update("jax_enable_x64", True)


@contextmanager
def third_party_promotion() -> Iterator[None]:
    """Let a library promote ranks and types as it likes, where difana itself must not.

    The tests run with strict promotion; distrax, flax and optax were not written for it.

    Example:
        >>> import jax.numpy as jnp
        >>> with third_party_promotion():
        ...     (jnp.ones((2, 1), "float32") + jnp.ones(3, "float64")).shape
        (2, 3)
    """
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def wider_dtype(*dtypes: DTypeLike) -> jnp.dtype:
    """Return the type that holds the numbers of all these types.

    Example:
        >>> wider_dtype("float32", "float64"), wider_dtype("int32", "float32")
        (dtype('float64'), dtype('float32'))
    """
    with third_party_promotion():
        return jnp.result_type(*(jnp.dtype(dtype) for dtype in dtypes))


@one_program
def safe_divide(
    numerator: Float[Array, "..."], denominator: Float[Array, "..."], fill: float = 0.0
) -> Float[Array, "..."]:
    """Return ``numerator / denominator``, and ``fill`` where the denominator is zero.

    Values and gradients are finite everywhere (double ``where``).

    Example:
        >>> import jax.numpy as jnp
        >>> safe_divide(jnp.array([1.0, 1.0]), jnp.array([2.0, 0.0])).tolist()
        [0.5, 0.0]
    """
    zero = denominator == 0
    return jnp.where(zero, fill, numerator / jnp.where(zero, 1.0, denominator))


@one_program
def safe_sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the square root for ``x > 0`` and 0 with zero gradient elsewhere.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> float(jax.grad(safe_sqrt)(jnp.array(0.0)))
        0.0
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def segment_sums(
    values: Float[Array, "*rows events"], index: Int[Array, " events"], size: int
) -> Float[Array, "*rows segments"]:
    """Return the sums of the values of each segment, to the last digits also in float32.

    A plain float32 scatter of 5e6 numbers 0.1 gives 478,181: a large sum swallows small numbers.
    Here neighbours go to different partial sums, which are then added in pairs.

    Args:
        values: Numbers, the last axis those of the events.
        index: Segment of each event, from 0 to ``size - 1``.
        size: Number of segments.

    Example:
        >>> import jax.numpy as jnp
        >>> segment_sums(jnp.array([1.0, 2.0, 4.0]), jnp.array([1, 0, 1]), 3).tolist()
        [2.0, 5.0, 0.0]
    """
    events = index.shape[0]
    most = max(1, min(_STRIPES, _TABLE // max(size, 1), events // max(size, 1)))
    stripes = 1 << (most.bit_length() - 1)
    offset = jnp.arange(events, dtype=index.dtype) % stripes
    where = index + size * offset
    zero = jnp.zeros((*values.shape[:-1], stripes * size), values.dtype)
    sums = zero.at[..., where].add(values, mode="promise_in_bounds")
    sums = sums.reshape(*values.shape[:-1], stripes, size)
    while sums.shape[-2] > 1:
        half = sums.shape[-2] // 2
        sums = sums[..., :half, :] + sums[..., half:, :]
    return sums[..., 0, :]


def weighted_sums(
    weights: Float[Array, "rows events"], columns: Float[Array, "events bins"]
) -> Float[Array, "rows bins"]:
    """Return ``weights @ columns``, in blocks of events: one matrix product loses digits.

    Example:
        >>> import jax.numpy as jnp
        >>> weighted_sums(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]])).tolist()
        [[11.0]]
    """
    events = columns.shape[0]
    if events <= _BLOCK:
        return weights @ columns
    whole = events // _BLOCK * _BLOCK
    blocks = (
        jnp.moveaxis(weights[:, :whole].reshape(len(weights), -1, _BLOCK), 1, 0),
        columns[:whole].reshape(-1, _BLOCK, columns.shape[1]),
    )

    def add(sums: tuple[Array, Array], block: tuple[Array, Array]) -> tuple[tuple, None]:
        return compensated_add(sums, block[0] @ block[1]), None

    rest = weights[:, whole:] @ columns[whole:]
    return lax.scan(add, (rest, jnp.zeros_like(rest)), blocks)[0][0]


def compensated_add(
    total: tuple[Array, Array], value: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return a running sum and its rounding error so far, after one more summand (Kahan).

    Example:
        >>> import jax.numpy as jnp
        >>> total = (jnp.float32(2.0**24), jnp.float32(0.0))
        >>> for _ in range(4):
        ...     total = compensated_add(total, jnp.float32(1.0))
        >>> float(total[0]) - 2**24
        4.0
    """
    before, lost = total
    value = value - lost
    now = before + value
    return now, (now - before) - value


def after(value: Float[Array, "..."], status: Int[Array, ""]) -> Float[Array, "..."]:
    """Return ``value``, but not before ``status`` (never negative) is known.

    Of two fits that do not need each other XLA runs both at once. Under ``vmap`` each then wants
    to spread a batch of matrices over the threads in which both wait: on a machine with two cores
    the program can hang (JAX 0.10, ``ParallelBatchMap``). So one fit waits for the other.

    Example:
        >>> import jax.numpy as jnp
        >>> after(jnp.array([1.0, 2.0]), jnp.array(0)).tolist()
        [1.0, 2.0]
    """
    return jnp.where(status < 0, jnp.nan, value)


def take(
    values: Shaped[Array, "lines *rest"], index: np.ndarray | Sequence[int]
) -> Shaped[Array, "..."]:
    """Return lines at fixed places: one operation, where indexing also checks and wraps them.

    Args:
        values: Lines.
        index: Numbers of lines, not negative and below their number: known when a program is made.

    Example:
        >>> import jax.numpy as jnp
        >>> take(jnp.array([1.0, 2.0, 3.0]), np.array([[2, 0]])).tolist()
        [[3.0, 1.0]]
    """
    return _gather(values, np.asarray(index, np.int32))


@one_program
def _gather(values: Array, index: Array) -> Array:
    rest = tuple(range(index.ndim, index.ndim + values.ndim - 1))
    numbers = lax.GatherDimensionNumbers(rest, collapsed_slice_dims=(0,), start_index_map=(0,))
    sizes = (1, *values.shape[1:])
    places = lax.expand_dims(index, (index.ndim,))  # in the program: it then holds an index once
    return lax.gather(values, places, numbers, sizes, mode="promise_in_bounds")


def add_at(
    values: Float[Array, "lines *rest"], index: np.ndarray, added: Float[Array, "places *rest"]
) -> Float[Array, "lines *rest"]:
    """Return lines with others added at fixed places, which may repeat; see :func:`take`.

    Example:
        >>> import jax.numpy as jnp
        >>> add_at(jnp.zeros(3), np.array([2, 0, 2]), jnp.array([1.0, 2.0, 3.0])).tolist()
        [2.0, 0.0, 4.0]
    """
    return _scatter(values, np.asarray(index, np.int32), added)


@one_program
def _scatter(values: Array, index: Array, added: Array) -> Array:
    rest = tuple(range(1, values.ndim))
    numbers = lax.ScatterDimensionNumbers(rest, (0,), (0,))
    return lax.scatter_add(
        values, lax.expand_dims(index, (1,)), added, numbers, mode="promise_in_bounds"
    )
