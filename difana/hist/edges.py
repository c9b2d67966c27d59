"""Edges chosen from events, on the host: quantiles and bins of equal yield."""

from __future__ import annotations

import numpy as np
from jaxtyping import ArrayLike, Float

from difana._errors import InputError


def uniform_edges(low: float, high: float, bins: int) -> Float[np.ndarray, " edges"]:
    """Return the edges of ``bins`` bins of equal width from ``low`` to ``high``.

    Raises:
        InputError: If ``low >= high``, a limit is not finite, or ``bins < 1``.

    Example:
        >>> uniform_edges(0.0, 1.0, 4).tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    _check_bins(bins)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(f"range from {low} to {high} is not finite and increasing")
    return np.linspace(low, high, bins + 1)


def quantile_edges(
    x: Float[ArrayLike, " events"], weights: Float[ArrayLike, " events"] | None, bins: int
) -> Float[np.ndarray, " edges"]:
    r"""Return edges at weighted quantiles: every bin holds an equal share of the weights.

    Interior edge ``k`` stands between two neighbouring values such that the cumulative weight
    below it is nearest to ``k / bins``; the outer edges are the extreme values. The edges
    increase strictly, also where many events share one value (bins are then of unequal yield).

    Args:
        x: Observable of the events ``[events]``.
        weights: Weights ``[events]``; ``None`` for unit weights. Single weights may be negative.
        bins: Number of bins.

    Returns:
        Edges ``[bins + 1]`` in the dtype of ``x``.

    Raises:
        InputError: For NaN or infinite values, wrong shapes, a total weight that is not positive,
            or fewer distinct values than bins.

    Example:
        >>> quantile_edges([1.0, 2.0, 3.0, 4.0], None, 2).tolist()
        [1.0, 2.5, 4.0]
    """
    _check_bins(bins)
    x, weights = _check_events(x, weights)
    values, inverse = np.unique(x, return_inverse=True)
    if values.size < max(bins, 2):
        raise InputError(
            f"{x.size} events have {values.size} distinct value(s) of x, too few for {bins}"
            " bin(s); use fewer bins or an observable that is not constant (the logit)"
        )
    yields = np.bincount(inverse, weights=weights, minlength=values.size)
    below = np.cumsum(yields) / weights.sum()
    cuts = []
    lowest = 0
    for number in range(1, bins):
        # leave one value to each of the bins to come
        candidates = below[lowest : values.size - (bins - number)]
        cuts.append(lowest + int(np.argmin(np.abs(candidates - number / bins))))
        lowest = cuts[-1] + 1
    left, right = values[cuts], values[np.array(cuts, dtype=int) + 1]
    middle = left + (right - left) / 2
    # between neighbouring floats the middle may round to the left one
    interior = np.where(middle > left, middle, right)
    last = values[-1]
    if interior.size and interior[-1] >= last:
        last = np.nextafter(last, np.array(np.inf, dtype=last.dtype))
    return np.concatenate([values[:1], interior, [last]]).astype(x.dtype)


def equal_yield_edges(
    x: Float[ArrayLike, " events"],
    weights: Float[ArrayLike, " events"] | None,
    bins: int,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Float[np.ndarray, " edges"]:
    """Return edges that share the given events equally, with outer edges of your choice.

    The same as :func:`quantile_edges` but for the range: give signal events and the range of all
    events, and the bins hold equal signal.

    Args:
        x: Observable of the events ``[events]``.
        weights: Weights ``[events]``; ``None`` for unit weights.
        bins: Number of bins.
        low: First edge, by default the smallest ``x``.
        high: Last edge, by default the largest ``x``.

    Returns:
        Edges ``[bins + 1]`` in the dtype of ``x``.

    Raises:
        InputError: As :func:`quantile_edges`, or if the range does not hold the interior edges.

    Example:
        >>> equal_yield_edges([1.0, 2.0, 3.0, 4.0], None, 2, low=-5.0, high=5.0).tolist()
        [-5.0, 2.5, 5.0]
    """
    edges = quantile_edges(x, weights, bins)
    edges[0] = edges[0] if low is None else low
    edges[-1] = edges[-1] if high is None else high
    if not np.all(edges[1:] > edges[:-1]):
        raise InputError(
            f"range {edges[0]} to {edges[-1]} does not hold the interior edges"
            f" {edges[1:-1].tolist()}; widen low and high"
        )
    return edges


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise InputError(f"bins is {bins}; it must be at least 1")


def _check_events(
    x: ArrayLike, weights: ArrayLike | None
) -> tuple[Float[np.ndarray, " events"], Float[np.ndarray, " events"]]:
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(np.float64)
    weights = np.ones(x.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 1 or weights.shape != x.shape:
        raise InputError(
            f"x has shape {x.shape} and weights {weights.shape}; both must be (events,)"
        )
    for name, values in (("x", x), ("weights", weights)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise InputError(
                f"{name} holds {wrong.size} NaN or infinite value(s), the first at event"
                f" {wrong[0]}; drop these events"
            )
    if not weights.sum() > 0:
        raise InputError(
            f"the {x.size} events have total weight {weights.sum()}; edges of equal yield need a"
            " positive one"
        )
    return x, weights
