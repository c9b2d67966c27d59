"""Ranks of statistics among toys: p-values, CLs, and their errors."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

BAND = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
_TIE = 1e-7  # fits of equal counts differ by rounding


def threshold(value: np.ndarray) -> np.ndarray:
    """Return the value from which on a statistic counts as at least as large."""
    safe = np.where(np.isfinite(value), value, 0.0)
    return np.where(np.isfinite(value), safe - _TIE * (1.0 + np.abs(safe)), value)


def tail(toys: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    """Return the share of toys at least as large as a value; not a number without toys.

    Example:
        >>> tail(np.array([0.0, 1.0, 2.0, 3.0]), 2.0).tolist()
        0.5
    """
    if not toys.size:
        return np.full(np.shape(value), np.nan)
    below = np.searchsorted(np.sort(toys), threshold(np.asarray(value, float)), side="left")
    return np.where(~np.isnan(value), (toys.size - below) / toys.size, np.nan)


def tail_error(share: np.ndarray | float, number: int) -> np.ndarray:
    """Return the binomial error of a share of toys; positive also where no toy or every toy counts.

    It is the width of the Beta posterior with a uniform prior.

    Example:
        >>> round(float(tail_error(0.5, 100)), 3), round(float(tail_error(0.0, 100)), 4)
        (0.049, 0.0097)
    """
    share = np.asarray(share, float)
    if number == 0:
        return np.full(share.shape, np.nan)
    one, other = share * number + 1.0, (1.0 - share) * number + 1.0
    return np.sqrt(one * other / (number + 2.0) ** 2 / (number + 3.0))


def ratio_error(
    upper: np.ndarray, upper_error: np.ndarray, lower: np.ndarray, lower_error: np.ndarray
) -> np.ndarray:
    """Return the error of a ratio of independent numbers."""
    safe = np.where(lower > 0, lower, np.nan)
    return np.hypot(upper_error, upper / safe * lower_error) / safe


def cls_of(
    signal: np.ndarray, background: np.ndarray, value: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Return CLs of values of the statistic, and its error."""
    clsb, clb = tail(signal, value), tail(background, value)
    safe = np.where(clb > 0, clb, np.nan)
    errors = tail_error(clsb, signal.size), tail_error(clb, background.size)
    return clsb / safe, ratio_error(clsb, errors[0], clb, errors[1])


def quantiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantiles at -2 .. 2 standard deviations and their errors, from order statistics.

    Example:
        >>> [round(float(x), 2) for x in quantiles(np.linspace(0, 1, 1001))[0]]
        [0.02, 0.16, 0.5, 0.84, 0.98]
    """
    if not values.size:
        return np.full(5, np.nan), np.full(5, np.nan)
    shares = ndtr(BAND)
    widths = np.sqrt(shares * (1 - shares) / values.size)
    middle = np.quantile(values, shares)
    low, high = (np.quantile(values, np.clip(shares + s * widths, 0, 1)) for s in (-1, 1))
    return middle, 0.5 * (high - low)


def cls_band(signal: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the five expected CLs, quantiles over the background toys, and their errors."""
    if not background.size:
        return np.full(5, np.nan), np.full(5, np.nan)
    values, own = cls_of(signal, background, background)
    middle, spread = quantiles(values)
    # the error of CLs itself, where the statistic has that quantile
    order = np.argsort(values, kind="stable")
    near = order[np.clip((ndtr(BAND) * values.size).astype(int), 0, values.size - 1)]
    return middle, np.hypot(spread, own[near])
