"""Checks of concrete inputs: they run outside jit and let tracers pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from difana._errors import InputError


def concrete(value: ArrayLike) -> bool:
    """Return True where the numbers can be read now."""
    return not isinstance(value, jax.core.Tracer)


@jax.jit
def _first_nonfinite(x: Array) -> tuple[Array, Array]:
    wrong = ~jnp.isfinite(x)
    return jnp.sum(wrong), jnp.argmax(wrong.reshape(-1))


@jax.jit
def _first_nan(x: Array) -> tuple[Array, Array]:
    wrong = jnp.isnan(x)
    return jnp.sum(wrong), jnp.argmax(wrong.reshape(-1))


def working_dtype(x: Array, weights: Array) -> jnp.dtype:
    """Return the dtype of the sums: that of the inputs, at least float32."""
    return jnp.promote_types(jnp.promote_types(x.dtype, weights.dtype), jnp.float32)


def check_events(
    x: ArrayLike, weights: ArrayLike | None, *, name: str = "x", dims: int | None = None
) -> tuple[Float[Array, "..."], Float[Array, " events"]]:
    """Return ``x`` and the weights as arrays of one dtype, or raise ``InputError``."""
    x = jnp.asarray(x)
    if dims is None and x.ndim != 1:
        remedy = f"; pass one column, {name}[:, 0]" if x.ndim == 2 else ""
        raise InputError(f"{name} has shape {x.shape}, not (events,){remedy}")
    if dims is not None and (x.ndim != 2 or x.shape[1] != dims):
        raise InputError(f"{name} has shape {x.shape}, not (events, {dims}), one column an axis")
    weights = jnp.ones(x.shape[0], x.dtype) if weights is None else jnp.asarray(weights)
    if weights.shape != x.shape[:1]:
        raise InputError(
            f"weights have shape {weights.shape}, but {name} holds {x.shape[0]} events;"
            " pass one weight an event"
        )
    for label, values, first in (
        (name, x, _first_nan),
        ("weights", weights, _first_nonfinite),
    ):
        if concrete(values) and values.size and jnp.issubdtype(values.dtype, jnp.inexact):
            number, where = (int(found) for found in first(values))
            if number:
                event = where // (values.size // values.shape[0])
                kind = "NaN" if first is _first_nan else "non-finite"
                raise InputError(
                    f"{label} holds {number} {kind} value(s), the first at event {event};"
                    " drop or repair these events before the histogram"
                )
    dtype = working_dtype(x, weights)
    return x.astype(dtype), weights.astype(dtype)


def check_edges(edges: ArrayLike, *, name: str = "edges") -> Array:
    """Return the edges as an array, or raise ``InputError`` unless they increase."""
    edges = jnp.asarray(edges)
    if edges.ndim != 1 or edges.shape[0] < 2:
        raise InputError(f"{name} have shape {edges.shape}; give at least two edges in one row")
    if concrete(edges):
        values = np.asarray(edges)
        wrong = np.flatnonzero(~(values[1:] > values[:-1]))
        if wrong.size:
            low = int(wrong[0])
            raise InputError(
                f"{name} do not increase in bin {low}: {values[low]} to {values[low + 1]};"
                " sort them and drop duplicates"
            )
    return edges


def check_positive(value: ArrayLike, *, name: str, zero: bool) -> Array:
    """Return a scalar, or raise ``InputError`` if negative (or zero unless ``zero``)."""
    value = jnp.asarray(value)
    if concrete(value):
        numbers = np.asarray(value)
        if not np.all(np.isfinite(numbers) & ((numbers >= 0) if zero else (numbers > 0))):
            bound = "zero or positive" if zero else "positive"
            raise InputError(f"{name} is {numbers}; it must be finite and {bound}")
    return value


def check_flow(flow: str) -> None:
    """Raise ``InputError`` unless ``flow`` is known."""
    if flow not in ("fold", "drop"):
        raise InputError(f"flow is '{flow}'; choose 'fold' (into the edge bins) or 'drop'")


def check_chunk(chunk: int) -> None:
    """Raise ``InputError`` unless ``chunk`` is a positive integer."""
    if chunk < 1:
        raise InputError(f"chunk is {chunk}; it must be at least one event")
