"""Calibration of a learned ratio on rows that did not train it: isotonic, or a temperature."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError


class Isotonic(eqx.Module):
    """A monotone function, linear between knots and constant beyond them.

    Attributes:
        knots: Log ratios as they were learned.
        values: Log ratios that the rows have there.
    """

    knots: Float[Array, " knots"]
    values: Float[Array, " knots"]

    def __call__(self, log: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the calibrated log ratio."""
        return jnp.interp(log, self.knots, self.values).astype(log.dtype)


class Temperature(eqx.Module):
    """A factor on the log ratio: below 1 for a classifier that is too sure of itself.

    Attributes:
        slope: The factor, the inverse of the temperature.
    """

    slope: Float[Array, ""]

    def __call__(self, log: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the calibrated log ratio."""
        return log * self.slope.astype(log.dtype)


def fit_temperature(
    log: Float[np.ndarray, " rows"],
    above: Float[np.ndarray, " rows"],
    below: Float[np.ndarray, " rows"],
) -> Temperature:
    r"""Return the slope :math:`b` that minimises the loss of the logit :math:`b f`, by Newton.

    Args:
        log: Log ratios :math:`f` of normalised densities.
        above: Weights of the numerator, of total 1.
        below: Weights of the denominator, of total 1.

    Raises:
        InputError: If the loss has no minimum at a positive slope.

    Example:
        Two values whose true log ratios are half as large as was learned:

        >>> log, r = np.array([-2.0, 2.0]), np.exp(np.array([-1.0, 1.0]))
        >>> found = fit_temperature(log, r / (1 + r), 1 / (1 + r))
        >>> round(float(found.slope), 6)
        0.5
    """
    slope = 1.0
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(slope * log, -500, 500)))
        gradient = np.sum(log * (below * p - above * (1 - p)))
        curvature = np.sum(log**2 * (above + below) * p * (1 - p))
        if not curvature > 0:
            break
        # the step of a logistic loss may overshoot where it is flat
        move = np.clip(-gradient / curvature, -0.5 * slope, slope)
        slope += move
        if abs(move) < 1e-10 * slope:
            return Temperature(jnp.asarray(slope))
    raise InputError(
        "no temperature makes this ratio right: it says nothing, or the opposite of the rows"
    )


def fit_isotonic(
    log: Float[np.ndarray, " rows"],
    above: Float[np.ndarray, " rows"],
    below: Float[np.ndarray, " rows"],
) -> Isotonic:
    r"""Return the monotone function whose likelihood is largest, without any bins.

    Pool adjacent violators (SciPy) give the posterior :math:`\sum w_1 / \sum (w_1 + w_0)` of blocks
    of rows that increases with ``log``; the function goes linearly through the log odds at the
    mean of each block. Rows are joined before until no block has a negative weight in one of the
    classes, and at both ends until both classes are there.

    Args:
        log: Log ratios of normalised densities.
        above: Weights of the numerator, of total 1.
        below: Weights of the denominator, of total 1.

    Raises:
        InputError: If nothing but one block is left.

    Example:
        >>> log = np.array([-1.0, -1.0, 1.0, 1.0])
        >>> found = fit_isotonic(log, np.array([0.25, 0, 0.75, 0]), np.array([0, 0.75, 0, 0.25]))
        >>> found.knots.tolist(), np.round(found.values, 3).tolist()
        ([-1.0, 1.0], [-1.099, 1.099])
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(log, kind="stable")
    starts = np.concatenate([[0], 1 + np.flatnonzero(np.diff(log[order]))])  # ties are one row
    sums = [np.add.reduceat(part[order], starts) for part in (above, below)]
    middle = np.add.reduceat(log[order], starts) / np.diff([*starts, len(log)])
    blocks = _positive_blocks(np.stack([*sums, middle], axis=1))
    w1, w0, x = blocks.T
    found = isotonic_regression(w1 / (w1 + w0), weights=w1 + w0)
    cuts = np.asarray(found.blocks)[:-1]
    w1, w0, wx = (np.add.reduceat(part, cuts) for part in (w1, w0, x * (w1 + w0)))
    pooled = _both_classes(np.stack([w1, w0, wx], axis=1))
    w1, w0, wx = pooled.T
    if len(pooled) < 2:
        raise InputError("the calibration finds no order in these rows: the ratio says nothing")
    return Isotonic(jnp.asarray(wx / (w1 + w0)), jnp.asarray(np.log(w1 / w0)))


def _positive_blocks(rows: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, "blocks 3"]:
    """Return rows joined with their neighbours until no weight is negative and none is empty."""
    rows = rows[(rows[:, 0] != 0) | (rows[:, 1] != 0)]
    if (rows[:, :2] >= 0).all():
        return rows
    done: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    for row in rows:
        last = _joined(waiting.pop(), row) if waiting else row
        whole = bool((last[:2] >= 0).all()) and last[:2].sum() > 0
        (done if whole else waiting).append(last)
    while waiting and done:  # what is left joins the last blocks
        last = _joined(done.pop(), waiting.pop())
        (done if (last[:2] >= 0).all() else waiting).append(last)
    if not done:
        raise InputError("the rows of the calibration have no positive weight")
    return np.stack(done)


def _joined(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the sum of two blocks, at the mean of their places."""
    sizes = [max(abs(part[0]) + abs(part[1]), 1e-300) for part in (one, two)]
    place = (sizes[0] * one[2] + sizes[1] * two[2]) / sum(sizes)
    return np.array([one[0] + two[0], one[1] + two[1], place])


def _both_classes(blocks: Float[np.ndarray, "blocks 3"]) -> Float[np.ndarray, "some 3"]:
    """Return the blocks after those at the ends were joined until both classes are in them."""
    inside = np.flatnonzero((blocks[:, 0] > 0) & (blocks[:, 1] > 0))
    if not inside.size:
        return blocks.sum(axis=0, keepdims=True)
    first, last = int(inside[0]), int(inside[-1])
    kept = blocks[first : last + 1].copy()
    kept[0] += blocks[:first].sum(axis=0)
    kept[-1] += blocks[last + 1 :].sum(axis=0)
    return kept


METHODS = {"isotonic": fit_isotonic, "temperature": fit_temperature}
Method = Literal["isotonic", "temperature"]
