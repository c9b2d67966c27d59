"""Checks of concrete inputs: they run outside jit and let tracers pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from difana._errors import InputError
from difana._numerics import wider_dtype


def concrete(value: ArrayLike | Sequence) -> bool:
    """Return True where the numbers can be read now, on this host."""
    return not isinstance(value, Tracer) and getattr(value, "is_fully_addressable", True)


def check_finite(values: ArrayLike, *, name: str, infinite: bool) -> None:
    """Raise ``InputError`` at NaN (and infinity if ``infinite``), with the first event's index."""
    if not concrete(values) or not np.size(values):
        return
    # in NumPy: constants are concrete inside a trace too, where a jnp call would be staged
    values = np.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        return
    wrong = ~np.isfinite(values) if infinite else np.isnan(values)
    number = np.count_nonzero(wrong)
    if number:
        event = np.argmax(wrong) // (values.size // len(values))
        kind = "non-finite" if infinite else "NaN"
        raise InputError(
            f"{name} holds {number} {kind} value(s), the first at event {event};"
            " drop or repair these events before the histogram"
        )


def working_dtype(x: Array, weights: Array) -> jnp.dtype:
    """Return the dtype of the sums: that of the inputs, at least float32."""
    return wider_dtype(x.dtype, weights.dtype, jnp.float32)


def check_events(
    x: ArrayLike, weights: ArrayLike | None, *, name: str = "x", dims: int | None = None
) -> tuple[Float[Array, "..."], Float[Array, " events"]]:
    """Return ``x`` and the weights as arrays of one dtype, or raise ``InputError``."""
    shape = np.shape(x)
    if dims is None and len(shape) != 1:
        remedy = f"; pass one column, {name}[:, 0]" if len(shape) == 2 else ""
        raise InputError(f"{name} has shape {shape}, not (events,){remedy}")
    if dims is not None and (len(shape) != 2 or shape[1] != dims):
        raise InputError(f"{name} has shape {shape}, not (events, {dims}), one column an axis")
    given: Any
    for label, given in ((name, x), ("weights", weights)):
        if np.iscomplexobj(given):
            raise InputError(f"{label} are complex: give real numbers")
    check_finite(x, name=name, infinite=False)
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(float)  # float64 where JAX has it: integers stay exact
    if weights is None:
        weights = jnp.ones(x.shape[0], x.dtype)
    if np.shape(weights) != x.shape[:1]:
        raise InputError(
            f"weights have shape {np.shape(weights)}, but {name} holds {x.shape[0]} events;"
            " pass one weight an event"
        )
    check_finite(weights, name="weights", infinite=True)
    weights = jnp.asarray(weights)
    dtype = working_dtype(x, weights)
    return x.astype(dtype), weights.astype(dtype)


def aligned(x: Any, rows: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Return observable and edges, counted from the first edge where float32 is too coarse.

    Observables of 1.7e9 + N(0, 1), or integers above 2^24, lose their digits when they become
    float32. Where a NumPy array still has them, the first edge is subtracted in float64 before.

    Args:
        x: Observable ``[events]`` or ``[events, axes]``.
        rows: Edges of each axis.
    """
    wide = not isinstance(x, jax.Array) or not jnp.issubdtype(x.dtype, jnp.inexact)
    if (
        not concrete(x)
        or not wide
        or jnp.result_type(float) == jnp.float64
        or np.ndim(x) not in (1, 2)
    ):
        return x, rows
    values = np.asarray(x)
    if values.dtype.kind not in "fiu" or values.dtype.itemsize < 4 or values.dtype == np.float32:
        return x, rows
    columns = values[:, None] if values.ndim == 1 else values
    if columns.shape[1] != len(rows):
        return x, rows  # refused later
    moved = []
    for axis, row in enumerate(rows):
        origin = _origin(row)
        moved.append(row if origin == 0 else np.asarray(row, np.float64) - origin)
        if origin:
            columns = columns.astype(np.float64)
            columns[:, axis] -= origin
    return columns.reshape(values.shape), tuple(moved)


def _origin(row: Any) -> float:
    """Return the first finite edge where float32 cannot tell numbers in a bin apart, else 0."""
    if not concrete(row):
        return 0.0
    edges = np.asarray(row, np.float64)
    edges = edges[np.isfinite(edges)]
    if edges.size < 2:
        return 0.0
    step = np.finfo(np.float32).eps * np.abs(edges).max()
    return float(edges[0]) if step > 1e-4 * np.diff(edges).min() else 0.0


def cast_edges(row: Any, dtype: jnp.dtype) -> Array:
    """Return edges in the type of the observable, or raise ``InputError`` if some become equal."""
    if concrete(row):  # in NumPy: inside a trace a jnp call would be staged
        values = np.asarray(row).astype(dtype)
        equal = np.flatnonzero(~(values[1:] > values[:-1]))
        if equal.size:
            low = int(equal[0])
            raise InputError(
                f"edges {np.asarray(row)[low]!r} and {np.asarray(row)[low + 1]!r} are the same"
                f" number in {jnp.dtype(dtype).name}: call difana.enable_x64() first, or subtract"
                " a constant from the observable and the edges"
            )
    return jnp.asarray(row).astype(dtype)


def shown_edges(named: tuple[Any, ...], used: tuple[Array, ...]) -> tuple[Any, ...]:
    """Return the edges of a histogram: those used, or the given ones where they were moved."""
    return tuple(
        given if isinstance(given, np.ndarray) and _origin(given) else cast
        for given, cast in zip(named, used, strict=True)
    )


def check_edges(edges: ArrayLike | Sequence, *, name: str = "edges", keep: bool = False) -> Any:
    """Return the edges as an array, or raise ``InputError`` unless they increase.

    With ``keep`` NumPy arrays stay: they may hold digits that an array of JAX has not.
    """
    shape = np.shape(edges)
    if len(shape) != 1 or shape[0] < 2:
        raise InputError(f"{name} have shape {shape}; give at least two edges in one row")
    if concrete(edges):
        values = np.asarray(edges)
        wrong = np.flatnonzero(~(values[1:] > values[:-1]))
        if wrong.size:
            low = int(wrong[0])
            raise InputError(
                f"{name} do not increase in bin {low}: {values[low]} to {values[low + 1]};"
                " sort them and drop duplicates"
            )
    if keep and concrete(edges) and not isinstance(edges, jax.Array):
        return np.asarray(edges)
    return jnp.asarray(edges)


def check_positive(value: ArrayLike | Sequence, *, name: str, zero: bool) -> Array:
    """Return a scalar, or raise ``InputError`` if negative (or zero unless ``zero``)."""
    if concrete(value):
        numbers = np.asarray(value)
        if not np.all(np.isfinite(numbers) & ((numbers >= 0) if zero else (numbers > 0))):
            bound = "zero or positive" if zero else "positive"
            raise InputError(f"{name} is {numbers}; it must be finite and {bound}")
    return jnp.asarray(value)


def check_flow(flow: str) -> None:
    """Raise ``InputError`` unless ``flow`` is known."""
    if flow not in ("fold", "drop"):
        raise InputError(f"flow is '{flow}'; choose 'fold' (into the edge bins) or 'drop'")


def check_chunk(chunk: int) -> None:
    """Raise ``InputError`` unless ``chunk`` is a positive integer."""
    if chunk < 1:
        raise InputError(f"chunk is {chunk}; it must be at least one event")
