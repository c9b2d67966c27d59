"""Upper limits by toys, observed and expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from difana._errors import ConfigError, ModelError
from difana._result import AbstractResult
from difana._status import Status
from difana.infer._checks import check_free_poi
from difana.infer.asimov import asimov_data
from difana.infer.limit import upper_limit
from difana.infer.toys import _rank
from difana.infer.toys._toy_loop import Toys, fine, joined, observe, run_toys, statistic_kind
from difana.likelihood import Model

_EXTENSIONS = 4  # of the grid, each by 1.25 and 1.5 times: five times the first end at most
_STEPS_UP = (1.25, 1.5)
# The first grid spans the asymptotic limits with room on both sides, as few events move them by
# tens of per cent; its end is extended where that was too little. Each point costs a set of toys.
_AROUND, _POINTS = (0.6, 1.3), 16
_NEAR = np.log(6.0)  # grid points whose CLs lies within this factor of the wanted one are fitted


class ToyLimitResult(AbstractResult):
    """Upper limits by toys, with the scan they come from.

    Attributes:
        observed: Observed limit; None without data.
        observed_error: Its error from the number of toys.
        expected: Expected limits at -2, -1, 0, 1, 2 standard deviations, ``[5]``.
        expected_error: Their errors, ``[5]``.
        grid: Tested values, ``[grid]``.
        cls: Observed CLs there, ``[grid]``; NaN without data.
        cls_error: Errors, ``[grid]``.
        expected_cls: Expected CLs there, ``[grid, 5]``.
        expected_cls_error: Errors, ``[grid, 5]``.
        failed: Number of toys whose fit failed; they are left out.
        status: Bit flags.
        level: Confidence level (static).
    """

    observed: float | None
    observed_error: float | None
    expected: Float[np.ndarray, " band"]
    expected_error: Float[np.ndarray, " band"]
    grid: Float[np.ndarray, " grid"]
    cls: Float[np.ndarray, " grid"]
    cls_error: Float[np.ndarray, " grid"]
    expected_cls: Float[np.ndarray, "grid band"]
    expected_cls_error: Float[np.ndarray, "grid band"]
    failed: int
    status: int
    level: float = eqx.field(static=True)

    @property
    def median(self) -> float:
        """The median expected limit."""
        return float(self.expected[2])


def toy_upper_limit(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    number: int,
    key: PRNGKeyArray,
    level: float = 0.95,
    grid: Float[ArrayLike, " grid"] | None = None,
    chunk: int = 1000,
    devices: Any = None,
    client: Any = None,
    file: str | Path | None = None,
    progress: bool = False,
) -> ToyLimitResult:
    r"""Return observed and expected CLs upper limits by toys of q-tilde.

    At every tested value on a grid, toys with and without signal give the observed CLs and its
    quantiles over the background toys, as :func:`difana.infer.toys` does. Every point of the grid
    has toys of its own, so that neighbours can be combined: a parabola in :math:`\mu` is fitted
    to :math:`\ln CL_s`, weighted by the errors, to the points with :math:`CL_s` within a factor
    of 6 of :math:`1-` ``level`` around the first crossing (a line through the two points at the
    crossing if there are fewer than four); the limit is its root there, and the errors propagate
    from those of CLs. The default grid has 16 points around the asymptotic limits, and is
    continued if CLs does not fall low enough. Not differentiable.

    Args:
        model: The model.
        data: Data vector. Without data there are expected limits only, with toys at the starting
            values of the nuisances.
        number: Toys of each hypothesis and tested value.
        key: Random key.
        level: Confidence level.
        grid: Tested values, positive.
        chunk: Toys fitted together, of any tested values.
        devices: Devices to spread chunks over; all local ones by default.
        client: A ``dask.distributed.Client``: chunks then run on its workers.
        file: An ``.npz`` file to continue from; see :func:`difana.infer.toys`.
        progress: Show a progress bar on a terminal.

    Returns:
        The limits; NOT_BRACKETED in the status where one lies outside the grid (NaN).

    Raises:
        ConfigError: If level, number or grid are not valid.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([10.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal, Template([50.0], name="b")), name="SR")])
        >>> result = toy_upper_limit(model, model.data([50.0]), number=500, key=jax.random.key(0),
        ...                          grid=[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5])
        >>> abs(result.observed - 1.56) < 4 * result.observed_error  # closed form
        True
    """
    check_free_poi(model)
    if not 0 < level < 1:
        raise ConfigError(f"the confidence level must lie between 0 and 1, not {level}")
    asked = statistic_kind(model, "qtilde")
    seen = data is not None
    data = asimov_data(model).data if data is None else data
    model.check_data(data)
    own = grid is None
    values = _default_grid(model, data, level) if grid is None else np.unique(np.ravel(grid))
    values = np.asarray(values, float)
    if values.size < 2 or not np.all(np.isfinite(values)) or values[0] <= 0:
        raise ConfigError("grid: at least two different positive numbers are needed")
    options = {
        "asked": asked, "number": number, "key": key, "chunk": chunk,
        "devices": devices, "client": client, "progress": progress,
    }  # fmt: skip
    scans = [_Scan(model, data, values, first_row=0, file=file, **options)]
    while own and len(scans) <= _EXTENSIONS and scans[-1].too_low(1 - level, seen=seen):
        values = scans[-1].grid[-1] * np.array(_STEPS_UP)
        next_file = None if file is None else f"{file}.{len(scans)}.npz"
        used = 2 * sum(scan.grid.size for scan in scans)  # rows of toys
        scans.append(_Scan(model, data, values, first_row=used, file=next_file, **options))
    return _limits(scans, level, seen=seen)


class _Scan:
    """CLs on a grid of tested values."""

    def __init__(self, model: Model, data: Array, grid: np.ndarray, **options: Any) -> None:
        self.grid = grid
        tested = np.concatenate([grid, grid])[:, None].astype(model.nominal.dtype)
        made_at = tested.copy()
        made_at[grid.size :] = 0.0
        conditional = observe(model, data, made_at[: grid.size + 1], options["asked"])
        params = np.asarray(conditional.params)
        params = np.concatenate([params[:-1], np.repeat(params[-1:], grid.size, axis=0)])
        toys = run_toys(model, params, tested, **options)
        self.status = joined(toys.status) | joined(conditional.status)
        self.status |= joined(conditional.free_status)
        self._rank(toys, np.asarray(conditional.statistic)[:-1])

    def _rank(self, toys: Toys, observed: np.ndarray) -> None:
        good = fine(toys.status)
        self.failed = int(np.sum(~good))
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for i in range(self.grid.size):
            j = i + self.grid.size
            pairs.append((toys.statistic[i][good[i]], toys.statistic[j][good[j]]))
        cls = [_rank.cls_of(s, b, q) for (s, b), q in zip(pairs, observed, strict=True)]
        self.cls, self.cls_error = (np.array(list(x), float) for x in zip(*cls, strict=True))
        band = [_rank.cls_band(*pair) for pair in pairs]
        self.band, self.band_error = (np.array(x) for x in zip(*band, strict=True))

    def too_low(self, alpha: float, *, seen: bool) -> bool:
        """Return True if the largest tested value is not excluded everywhere."""
        return bool(np.any(self.band[-1] > alpha) or (seen and self.cls[-1] > alpha))


def _default_grid(model: Model, data: Array, level: float) -> np.ndarray:
    limits = eqx.filter_jit(upper_limit)(model, data, level=level)
    found = np.append(np.asarray(limits.expected), float(np.asarray(limits.observed)))
    found = found[np.isfinite(found) & (found > 0)]
    if not found.size:
        raise ModelError("no asymptotic limit to start from: give a grid of tested values")
    return np.linspace(_AROUND[0] * found.min(), _AROUND[1] * found.max(), _POINTS)


def _limits(scans: list[_Scan], level: float, *, seen: bool) -> ToyLimitResult:
    grid, cls, error, band, band_error = (
        np.concatenate([getattr(scan, name) for scan in scans])
        for name in ("grid", "cls", "cls_error", "band", "band_error")
    )
    alpha = 1 - level
    found = [_crossing(grid, band[:, n], band_error[:, n], alpha) for n in range(5)]
    expected, expected_error = (np.array(x) for x in zip(*found, strict=True))
    observed, observed_error = _crossing(grid, cls, error, alpha) if seen else (None, None)
    status = int(np.bitwise_or.reduce([scan.status for scan in scans]))
    if np.isnan(expected).any() or (observed is not None and np.isnan(observed)):
        status |= int(Status.NOT_BRACKETED)
    unseen = np.full(grid.size, np.nan)
    return ToyLimitResult(
        observed, observed_error, expected, expected_error, grid,
        cls if seen else unseen, error if seen else unseen, band, band_error,
        sum(scan.failed for scan in scans), status, level,
    )  # fmt: skip


def _crossing(
    grid: np.ndarray, cls: np.ndarray, error: np.ndarray, alpha: float
) -> tuple[float, float]:
    """Return where CLs falls through alpha, and the error of that place."""
    below = np.flatnonzero(cls <= alpha)
    if not below.size or below[0] == 0:
        return float("nan"), float("nan")
    right, left = int(below[0]), int(below[0]) - 1
    # no toy at all: half a toy, so that a logarithm exists
    floor = np.maximum(cls, 0.5 * error)
    value, width = np.log(floor / alpha), error / floor
    near = np.flatnonzero((np.abs(value) < _NEAR) & (width < 1))
    if near.size >= 4:
        middle = 0.5 * (grid[left] + grid[right])
        x = grid[near] - middle
        design = np.stack([np.ones_like(x), x, x**2], axis=1) / width[near, None]
        covariance = np.linalg.pinv(design.T @ design)
        a, b, c = covariance @ design.T @ (value[near] / width[near])
        found = np.roots([c, b, a]) if c != 0 else np.array([-a / b])
        roots = np.real(found[np.isreal(found)])
        roots = roots[(roots > x.min()) & (roots < x.max()) & (b + 2 * c * roots < 0)]
        if roots.size:
            root = roots[np.argmin(np.abs(roots))]
            vector = np.array([1.0, root, root**2])
            spread = np.sqrt(vector @ covariance @ vector) / abs(b + 2 * c * root)
            return float(middle + root), float(spread)
    step = (grid[right] - grid[left]) / (value[left] - value[right])
    share = value[left] * step
    spread = step * np.hypot(
        width[left] * (1 - share / (grid[right] - grid[left])),
        width[right] * share / (grid[right] - grid[left]),
    )
    return float(grid[left] + share), float(spread)
