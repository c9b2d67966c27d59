"""The common check of scores, labels and weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from difana._errors import InputError


def as_events(
    scores: jax.Array, labels: jax.Array, weights: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return scores, signal weights and background weights, each ``[events]``.

    Shapes are checked always, values only outside jit.
    """
    scores, labels = jnp.asarray(scores), jnp.asarray(labels)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    weights = jnp.ones_like(scores) if weights is None else jnp.asarray(weights, scores.dtype)
    if scores.ndim != 1 or scores.shape != labels.shape or scores.shape != weights.shape:
        raise InputError(
            "scores, labels and weights must be [events] and of one length, got "
            f"{scores.shape}, {labels.shape}, {weights.shape}"
        )
    is_signal = labels > 0.5
    if not any(isinstance(x, jax.core.Tracer) for x in (scores, labels, weights)):
        if not bool(jnp.all(jnp.isfinite(scores)) & jnp.all(jnp.isfinite(weights))):
            raise InputError("scores and weights must be finite: NaN has no rank")
        if bool(jnp.all(is_signal) | ~jnp.any(is_signal)):
            raise InputError("both classes need events: labels are all signal (1) or all not (0)")
    return scores, jnp.where(is_signal, weights, 0), jnp.where(is_signal, 0, weights)
