"""A ratio made right on rows that did not train it."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from difana._errors import ConfigError, nearest
from difana.ratio.calibration import METHODS, Method
from difana.ratio.log_ratio import LogRatio
from difana.ratio.rows import RatioRows, checked_rows, positive_totals


def calibrated(log_ratio: LogRatio, rows: RatioRows, *, method: Method = "isotonic") -> LogRatio:
    """Return the ratio with the yields that the rows have where it takes a value.

    A classifier that is too sure of itself, or not sure enough, orders the rows well and gives them
    wrong ratios. ``"isotonic"`` learns any monotone correction and needs thousands of rows;
    ``"temperature"`` learns one factor. The yields of numerator and denominator are not changed.
    Negative weights are joined with their neighbours (isotonic) or taken as they are.

    Args:
        log_ratio: The ratio; an earlier calibration is replaced.
        rows: Rows that did not train it, such as those that ``RatioResult.held`` names.
        method: ``"isotonic"`` or ``"temperature"``.

    Returns:
        The calibrated ratio.

    Raises:
        ConfigError: For an unknown method.
        InputError: If the rows make no sense, or the ratio orders them not at all.

    References:
        arXiv:1506.02169 section 3; arXiv:1706.04599.
    """
    if method not in METHODS:
        raise ConfigError(
            f"method = '{method}': choose one of {list(METHODS)}.{nearest(method, METHODS)}"
        )
    rows = checked_rows(rows)
    totals = positive_totals(rows)
    bare = dataclasses.replace(
        log_ratio, calibration=None, cap=None, log_norm=jnp.zeros_like(log_ratio.log_norm)
    )
    log = np.asarray(bare(rows.x), np.float64)
    above, below = (
        np.asarray(part, np.float64) / total
        for part, total in zip((rows.above, rows.below), totals, strict=True)
    )
    return dataclasses.replace(log_ratio, calibration=METHODS[method](log, above, below))
