"""The receiver operating characteristic."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from difana._numerics import safe_divide
from difana.metrics._checks import as_events


class RocCurve(eqx.Module):
    """Efficiencies of ``score >= threshold`` for falling thresholds, from (0, 0) to (1, 1).

    Attributes:
        signal_efficiency: Weighted fraction of the signal that passes, ``[points]``.
        background_efficiency: Weighted fraction of the background that passes, ``[points]``.
    """

    signal_efficiency: Float[Array, " points"]
    background_efficiency: Float[Array, " points"]


def roc_curve(
    scores: Float[ArrayLike, " events"],
    labels: Shaped[ArrayLike, " events"],
    weights: Float[ArrayLike, " events"] | None = None,
) -> RocCurve:
    """Return the ROC curve with one point an event; tied events share their point.

    Args:
        scores: Larger is more signal-like, ``[events]``.
        labels: 1 for signal, 0 for background, ``[events]``.
        weights: Event weights, ``[events]``; all one if not given.

    Returns:
        The curve, of ``events + 1`` points. Negative weights can make it run backwards.

    Raises:
        InputError: If the shapes differ; outside jit, if a number is not finite or a class empty.

    Example:
        >>> import jax.numpy as jnp
        >>> curve = roc_curve(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1]))
        >>> curve.signal_efficiency.tolist()
        [0.0, 0.5, 0.5, 1.0, 1.0]
        >>> curve.background_efficiency.tolist()
        [0.0, 0.0, 0.5, 0.5, 1.0]
    """
    x, signal, background = as_events(scores, labels, weights)
    order = jnp.argsort(-x)
    falling = -x[order]
    # A threshold cannot part tied events, so each takes the sums after the last of its ties.
    last = jnp.searchsorted(falling, falling, side="right") - 1

    def efficiency(passing: Array) -> Array:
        sums = jnp.cumsum(passing[order])[last]
        return jnp.concatenate([jnp.zeros(1, sums.dtype), safe_divide(sums, jnp.sum(passing))])

    return RocCurve(efficiency(signal), efficiency(background))
