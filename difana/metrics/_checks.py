"""The common check of scores, labels and weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana._numerics import wider_dtype


def as_events(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return scores, signal weights and background weights, each ``[events]``.

    Shapes are checked always, values only outside jit.
    """
    x, y = jnp.asarray(scores), jnp.asarray(labels)
    x = x.astype(wider_dtype(x.dtype, jnp.float32))
    w = jnp.ones_like(x) if weights is None else jnp.asarray(weights, x.dtype)
    if x.ndim != 1 or x.shape != y.shape or x.shape != w.shape:
        raise InputError(
            "scores, labels and weights must be [events] and of one length, got "
            f"{x.shape}, {y.shape}, {w.shape}"
        )
    is_signal = y.astype(x.dtype) > 0.5
    if not any(isinstance(array, Tracer) for array in (x, y, w)):
        if not bool(jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(w))):
            raise InputError("scores and weights must be finite: NaN has no rank")
        if bool(jnp.all(is_signal) | ~jnp.any(is_signal)):
            raise InputError("both classes need events: labels are all signal (1) or all not (0)")
    return x, jnp.where(is_signal, w, 0), jnp.where(is_signal, 0, w)
