"""Unweighted events from weighted ones, in one stage or in two with a surrogate."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from difana._errors import InputError
from difana._options import real_number


class Unweighted(NamedTuple):
    """Which events are kept, and what they count.

    Attributes:
        kept: Which events are kept, ``[events]``.
        weights: Weights of the kept ones: one, minus one, or more where a weight was above the
            largest.
        efficiency: Share of the events that is kept.
        evaluations: Share of the events of which the exact weight was needed.
    """

    kept: Bool[np.ndarray, " events"]
    weights: Float[np.ndarray, " kept"]
    efficiency: float
    evaluations: float


def largest_weight(weights: Float[np.ndarray, " events"], *, excess: float = 1e-3) -> float:
    """Return the weight above which all others hold no more than a share of the total.

    The largest weight of a sample is a fluctuation that grows with its size. Events above the value
    returned here keep the rest of their weight, so nothing is biased.

    Args:
        weights: Weights; their modulus counts.
        excess: Share of the total that may lie above, summed over the events.

    Raises:
        InputError: If a weight is not finite, or all are zero.

    Example:
        >>> largest_weight(np.append(np.ones(999), 101.0), excess=0.1)
        1.0
        >>> largest_weight(np.array([1.0, 2.0, 5.0]), excess=0.0)
        5.0
    """
    real_number("excess", excess, least=0, most=1)
    w = np.sort(np.abs(np.asarray(weights, np.float64)))[::-1]
    if not np.isfinite(w).all() or not w.size or w[0] == 0:
        raise InputError("weights: not finite, or all zero: nothing can be unweighted")
    # sum of what lies above the weight number k
    above = np.cumsum(w) - w * np.arange(1, len(w) + 1)
    return float(w[np.flatnonzero(above <= excess * w.sum())[-1]])


def unweighting_efficiency(weights: Float[np.ndarray, " events"], *, excess: float = 1e-3) -> float:
    """Return mean over largest weight, see ``largest_weight``.

    Example:
        >>> unweighting_efficiency(np.array([1.0, 1.0, 2.0]), excess=0.0)
        0.6666666666666666
    """
    w = np.abs(np.asarray(weights, np.float64))
    return float(w.mean() / largest_weight(w, excess=excess))


def unweight(
    weights: Float[np.ndarray, " events"],
    *,
    key: Shaped[Array, ""],
    excess: float = 1e-3,
    surrogate: Float[np.ndarray, " events"] | None = None,
) -> Unweighted:
    r"""Return unweighted events: each is kept with probability weight over largest weight.

    With a surrogate :math:`s` of the weights in two stages: first with probability
    :math:`s / s_\text{max}`, and only of the events that are left the exact weight :math:`w` is
    needed, for the second with :math:`x = w / s` and :math:`x / x_\text{max}`. What is kept is
    distributed exactly as the weights are, however bad the surrogate is.

    Args:
        weights: Exact weights, of either sign.
        key: Random key.
        excess: See ``largest_weight``.
        surrogate: Cheap positive estimate of their moduli.

    Returns:
        The events.

    Raises:
        InputError: If a number is not finite or a surrogate not positive.

    Example:
        >>> w = np.linspace(0.0, 2.0, 10_000)
        >>> found = unweight(w, key=jax.random.key(0), excess=0.0)
        >>> round(found.efficiency, 2), round(float(np.mean(w[found.kept])), 1)
        (0.5, 1.3)

    References:
        arXiv:2109.11964 (two stages), arXiv:2001.10028 (events above the largest weight).
    """
    w = np.asarray(weights, np.float64)
    key_first, key_second = jax.random.split(key)
    first, second = (
        np.asarray(jax.random.uniform(one, w.shape), np.float64) for one in (key_first, key_second)
    )
    sign = np.sign(w)
    if surrogate is None:
        share = np.abs(w) / largest_weight(w, excess=excess)
        kept = first < share
        return Unweighted(kept, (sign * np.maximum(share, 1))[kept], float(kept.mean()), 1.0)
    s = np.asarray(surrogate, np.float64)
    if s.shape != w.shape or not np.isfinite(s).all() or (s <= 0).any():
        raise InputError("surrogate: give one positive finite number for each weight")
    share = s / largest_weight(s, excess=excess)
    passed = first < share
    # what lies above the largest surrogate is paid for in the second stage
    ratio = np.abs(w) / s * np.maximum(share, 1)
    most = largest_weight(ratio[passed], excess=excess)
    kept = passed & (second < ratio / most)
    final = (sign * np.maximum(ratio / most, 1))[kept]
    return Unweighted(kept, final, float(kept.mean()), float(passed.mean()))


def effective_gain(one: Unweighted, two: Unweighted, *, cost: float) -> float:
    r"""Return the gain in time of two stages over one, for the same effective number of events.

    .. math::
        g = \frac{T_1 / N_1}{T_2 / N_2}, \qquad T_1 \propto 1, \quad
        T_2 \propto \frac1c + \epsilon_1, \quad
        N = \frac{(\sum w)^2}{\sum w^2}

    Args:
        one: What ``unweight`` kept in one stage.
        two: What it kept in two, of the same events.
        cost: Time of an exact weight over that of a surrogate.

    References:
        arXiv:2109.11964, equation (20), with effective events in place of events.
    """
    real_number("cost", cost, above=0)
    sizes = [np.sum(x.weights) ** 2 / np.sum(x.weights**2) for x in (one, two)]
    return float(sizes[1] / sizes[0] / (1 / cost + two.evaluations))
