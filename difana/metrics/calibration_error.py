"""How far probabilities are from the frequencies they stand for."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide, segment_sums


def calibration_error(
    probability: Float[Array, " events"],
    signal: Float[Array, " events"],
    total: Float[Array, " events"],
    *,
    bins: int = 20,
) -> Float[Array, ""]:
    r"""Return the mean distance of a probability from the frequency of the events that have it.

    .. math::
        E = \frac{\sum_b | \sum_{i \in b} (w_i p_i - s_i) |}{\sum_i w_i}

    over bins of equal numbers of events: 0 for a calibrated probability, up to fluctuations.

    Args:
        probability: Predicted probability of being signal.
        signal: Weight of an event as signal.
        total: Its weight altogether, signal and background.
        bins: Number of bins.

    Raises:
        InputError: If the lengths differ.

    Example:
        >>> p = jnp.array([0.25, 0.25, 0.25, 0.25])
        >>> calibration_error(p, jnp.array([1.0, 0, 0, 0]), jnp.ones(4), bins=1).item()
        0.0

    References:
        arXiv:1706.04599.
    """
    if not len(probability) == len(signal) == len(total):
        raise InputError(
            f"{len(probability)} probabilities, {len(signal)} and {len(total)} weights: give one"
            " each"
        )
    rank = jnp.argsort(jnp.argsort(probability, stable=True), stable=True)
    place = rank * bins // max(len(probability), 1)
    away = segment_sums(total * probability - signal, place, bins)
    return safe_divide(jnp.sum(jnp.abs(away)), jnp.sum(total))
