"""Confidence regions of Feldman and Cousins: every point accepted or not, by toys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from difana._errors import ConfigError, ModelError
from difana._result import AbstractResult
from difana._status import Status
from difana.infer.toys import _rank
from difana.infer.toys._toy_loop import fine, joined, observe, run_toys, statistic_kind
from difana.likelihood import Model


class FeldmanCousinsResult(AbstractResult):
    """A confidence region on a grid.

    Toys whose fit fails are left out of the p-values; ``failed`` counts them, and their flags are
    part of ``status``.

    Attributes:
        points: Tested values, ``[grid, tested]``: all combinations, the last one runs fastest.
        statistic: Observed statistic, ``[grid]``.
        p_value: Share of toys at least as large, ``[grid]``.
        p_error: Its binomial error, ``[grid]``.
        best: Best fit of the tested parameters, ``[tested]``.
        failed: Toys whose fit failed, ``[grid]``.
        status: Bit flags.
        names: Tested parameters (static).
        level: Confidence level (static).
    """

    points: Float[np.ndarray, "grid tested"]
    statistic: Float[np.ndarray, " grid"]
    p_value: Float[np.ndarray, " grid"]
    p_error: Float[np.ndarray, " grid"]
    best: Float[np.ndarray, " tested"]
    failed: np.ndarray
    status: int
    names: tuple[str, ...] = eqx.field(static=True)
    level: float = eqx.field(static=True)

    @property
    def accepted(self) -> Bool[np.ndarray, " grid"]:
        """True for the points of the confidence region."""
        return self.p_value > 1.0 - self.level

    @property
    def uncertain(self) -> Bool[np.ndarray, " grid"]:
        """True where the p-value lies within two errors of the border: more toys would tell."""
        return np.abs(self.p_value - (1.0 - self.level)) < 2.0 * self.p_error

    @property
    def interval(self) -> tuple[float, float]:
        """Smallest and largest accepted value of a single tested parameter.

        NaN where no point is accepted. The ends are as exact as the grid is fine, and as the
        number of toys allows: see ``uncertain``.
        """
        if len(self.names) != 1:
            raise ConfigError(f"a region in {list(self.names)} is no interval: see `accepted`")
        inside = self.points[self.accepted, 0]
        return (float(inside.min()), float(inside.max())) if inside.size else (np.nan, np.nan)


def feldman_cousins(
    model: Model,
    data: Float[Array, " data"],
    grid: Mapping[str, ArrayLike],
    *,
    level: float = 0.9,
    number: int = 1000,
    key: PRNGKeyArray,
    chunk: int = 1000,
    devices: Any = None,
    client: Any = None,
    file: str | Path | None = None,
    progress: bool = False,
) -> FeldmanCousinsResult:
    r"""Return the confidence region of Feldman and Cousins on a grid.

    At each point toys are drawn, with the other parameters at their conditional fit to the data;
    the point is accepted if the share of toys whose :math:`\tilde t_\mu` is at least the observed
    one exceeds ``1 - level``. With several tested parameters the statistic is the profile ratio
    to the best fit within the bounds of the model; one tested parameter is not bounded above. The
    best fit of tested parameters is not negative where their grid is not. Not differentiable.

    Args:
        model: The model.
        data: Data vector.
        grid: Values of each tested parameter by name; all combinations are tested.
        level: Confidence level.
        number: Toys of each point.
        key: Random key.
        chunk: Toys fitted together, of any points.
        devices: Devices to spread chunks over; all local ones by default.
        client: A ``dask.distributed.Client``: chunks then run on its workers.
        file: An ``.npz`` file to continue from; see :func:`difana.infer.toys`.
        progress: Show a progress bar on a terminal.

    Returns:
        p-values and accepted points. NOT_BRACKETED in the status: the last point of a grid is
        accepted, so that the region may go on; the first one, unless it is zero.

    Raises:
        ConfigError: If level, number or grid are not valid.
        ModelError: If a parameter does not exist or is constrained.

    References:
        G. J. Feldman, R. D. Cousins, arXiv:physics/9711021; nuisances as in arXiv:1007.1727,
        equation 11.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([1.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal, Template([3.0], name="b")), name="SR")])
        >>> result = feldman_cousins(model, model.data([3.0]), {"mu": [0.0, 2.0, 4.0, 6.0]},
        ...                          number=1000, key=jax.random.key(0))
        >>> result.interval  # table IV: 0.00 to 4.42
        (0.0, 4.0)
    """
    if not 0 < level < 1:
        raise ConfigError(f"the confidence level must lie between 0 and 1, not {level}")
    model.check_data(data)
    names = tuple(grid)
    if not names:
        raise ConfigError("no parameter to test: give {'mu': values}")
    axes = [np.atleast_1d(np.asarray(grid[name], float)) for name in names]
    for name, axis in zip(names, axes, strict=True):
        if axis.ndim != 1 or not axis.size or not np.all(np.isfinite(axis)):
            raise ConfigError(f"grid of '{name}': a list of finite numbers is needed")
        if model.index(name) in model.structure.constrained:
            raise ModelError(f"'{name}' is constrained: toys of it are no test of its value")
    points = np.stack([np.ravel(x) for x in np.meshgrid(*axes, indexing="ij")], axis=1)
    points = points.astype(model.nominal.dtype)
    negative = bool((points < 0).any())
    asked = statistic_kind(model, "tmu" if negative else "tmu_tilde", names)
    conditional = observe(model, data, points, asked)
    toys = run_toys(
        model, np.asarray(conditional.params), points, asked=asked, number=number, key=key,
        chunk=chunk, devices=devices, client=client, file=file, progress=progress,
    )  # fmt: skip
    good = fine(toys.status)
    observed = np.asarray(conditional.statistic)
    rows = [toys.statistic[i][good[i]] for i in range(len(points))]
    p_value = np.array([_rank.tail(row, t) for row, t in zip(rows, observed, strict=True)])
    p_error = np.array(
        [_rank.tail_error(p, row.size) for p, row in zip(p_value, rows, strict=True)]
    )
    status = joined(toys.status) | joined(conditional.status) | joined(conditional.free_status)
    result = FeldmanCousinsResult(
        points, observed, p_value, p_error, np.asarray(conditional.best),
        np.sum(~good, axis=1), status, names, level,
    )  # fmt: skip
    if not _closed(result, axes):
        result = eqx.tree_at(lambda r: r.status, result, status | int(Status.NOT_BRACKETED))
    return result


def _closed(result: FeldmanCousinsResult, axes: list[np.ndarray]) -> bool:
    """Return True if no accepted point lies at the edge of the grid, zero apart."""
    inside = result.points[result.accepted]
    for axis, values in zip(axes, inside.T, strict=True):
        if axis.size == 1:
            continue
        low = axis.min()
        if np.any(values == axis.max()) or (low != 0 and np.any(values == low)):
            return False
    return True
