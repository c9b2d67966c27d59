"""Background rejection at a fixed signal efficiency."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from difana._errors import InputError
from difana._numerics import safe_divide
from difana.metrics.roc_curve import roc_curve


def background_rejection(
    scores: Float[ArrayLike, " events"],
    labels: Shaped[ArrayLike, " events"],
    weights: Float[ArrayLike, " events"] | None = None,
    *,
    efficiency: ArrayLike,
) -> Float[Array, "*efficiencies"]:
    r"""Return :math:`1 / \epsilon_B` where the signal efficiency is first :math:`\epsilon_S`.

    The ROC curve is interpolated linearly between its points. If no background event passes, the
    rejection is infinite: the sample is too small to say more.

    Args:
        scores: Larger is more signal-like, ``[events]``.
        labels: 1 for signal, 0 for background, ``[events]``.
        weights: Event weights, ``[events]``; all one if not given. Negative weights can make the
            curve fall: the first crossing counts.
        efficiency: Signal efficiency in (0, 1], any shape.

    Returns:
        The rejection, of the shape of ``efficiency``.

    Raises:
        InputError: If an efficiency is outside (0, 1], or as in ``roc_auc``.

    Example:
        >>> import jax.numpy as jnp
        >>> scores, labels = jnp.arange(8.0), jnp.array([0, 0, 0, 1, 0, 1, 1, 1])
        >>> float(background_rejection(scores, labels, efficiency=1.0))
        4.0
    """
    wanted = jnp.asarray(efficiency)
    if not bool(jnp.all((wanted > 0) & (wanted <= 1))):
        raise InputError(f"efficiency must be in (0, 1], got {efficiency}")
    curve = roc_curve(scores, labels, weights)
    signal, background = curve.signal_efficiency, curve.background_efficiency
    # Rounding may leave the last sum a little below 1; the running maximum finds first crossings.
    reached = jnp.maximum.accumulate(signal.at[-1].set(1.0))
    i = jnp.clip(jnp.searchsorted(reached, wanted, side="left"), 1, signal.size - 1)
    step = safe_divide(wanted - reached[i - 1], reached[i] - reached[i - 1])
    mistag = background[i - 1] + step * (background[i] - background[i - 1])
    return safe_divide(jnp.ones_like(mistag), mistag, fill=jnp.inf)
