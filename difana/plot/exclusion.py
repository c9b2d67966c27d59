"""Exclusion contours over a two-dimensional grid of signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

_SMALLEST = 1e-12
_RASTER = 400


def exclusion(
    x: ArrayLike,
    y: ArrayLike,
    expected: ArrayLike,
    observed: ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    points: bool = True,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = r"$m_1$ [GeV]",
    ylabel: str = r"$m_2$ [GeV]",
    ax: Axes | None = None,
) -> Figure:
    r"""Draw where CLs equals ``alpha``: observed, expected, and expected at 1 sigma.

    Between the signals, which may lie anywhere, :math:`\Phi^{-1}(\mathrm{CL}_s)` is interpolated
    linearly on their Delaunay triangulation: it varies far more evenly than CLs.

    Args:
        x: First parameter of each signal, ``[points]``.
        y: Second parameter, ``[points]``.
        expected: Expected CLs, ``[points, 5]``, the quantiles -2 to +2 sigma in either order.
        observed: Observed CLs, ``[points]``; None for a blind picture.
        alpha: Signals with CLs below are excluded.
        points: Mark the signals.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of ``x``.
        ylabel: Name and unit of ``y``.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If the shapes do not fit, or the signals lie on one line.

    Example:
        >>> x, y = np.meshgrid([100.0, 200.0, 300.0], [0.0, 50.0, 100.0])
        >>> cls = 0.0005 * np.exp((x + 2 * y) / 60).ravel()
        >>> expected = cls[:, None] * [0.5, 0.7, 1.0, 1.4, 2.0]
        >>> figure = exclusion(x.ravel(), y.ravel(), np.clip(expected, 0, 1), cls)
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['expected', 'expected $\\pm 1\\sigma$', 'observed']
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    expected = np.asarray(expected, float)
    if x.ndim != 1 or y.shape != x.shape or expected.shape != (x.size, 5):
        raise InputError(
            f"x {x.shape} needs y of the same shape and expected CLs of shape {(x.size, 5)}, "
            f"got {y.shape} and {expected.shape}"
        )
    grid = _triangles(x, y)
    bands = [_height(column) for column in np.sort(expected, axis=1).T]
    level = _height(np.array([alpha]))
    ax = ax if ax is not None else style.one_axes(size=(6.4, 4.8))
    _between(ax, grid, bands, float(level[0]))
    lines = [(bands[2], "--", style.BLACK, "expected")]
    for i in (1, 3):
        ax.tricontour(grid, bands[i], levels=level, colors=style.BLUE, linewidths=0.8,
                      linestyles=":")  # fmt: skip
    if observed is not None:
        observed = np.asarray(observed, float)
        if observed.shape != x.shape:
            raise InputError(f"observed CLs {observed.shape} do not fit the {x.size} signals")
        lines.append((_height(observed), "-", style.VERMILION, "observed"))
    for values, dashes, color, name in lines:
        ax.tricontour(grid, values, levels=level, colors=color, linestyles=dashes, linewidths=1.8)
        ax.plot([], [], color=color, linestyle=dashes, linewidth=1.8, label=name)
        if name == "expected":
            ax.fill([], [], color=style.ONE_SIGMA, alpha=0.6, label=r"expected $\pm 1\sigma$")
    if points:
        ax.plot(x, y, linestyle="none", marker=".", markersize=3, color=style.GREY)
    style.dress(ax, title=title, label=label, xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, fontsize=9)
    return style.figure_of(ax)


def _triangles(x: np.ndarray, y: np.ndarray) -> Triangulation:
    from matplotlib.tri import Triangulation

    try:
        # axes of like length: triangles should not depend on the units
        spread = [max(float(np.ptp(v)), _SMALLEST) for v in (x, y)]
        unit = Triangulation((x - x.min()) / spread[0], (y - y.min()) / spread[1])
        return Triangulation(x, y, unit.triangles)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "contours need three signals or more, not all on one line: use brazil()"
        ) from error


def _height(cls: np.ndarray) -> np.ndarray:
    """Return the normal quantile of CLs, finite also for 0, 1 and NaN (not excluded)."""
    from scipy.special import ndtri

    return ndtri(np.clip(np.nan_to_num(cls, nan=1.0), _SMALLEST, 1 - _SMALLEST))


def _between(ax: Axes, grid: Triangulation, bands: list[np.ndarray], level: float) -> None:
    """Fill the points that lie between the contours at -1 and +1 sigma."""
    from matplotlib.tri import LinearTriInterpolator

    # on a fine raster: within a triangle the smaller of two linear functions is not linear
    x, y = (np.linspace(v.min(), v.max(), _RASTER) for v in (grid.x, grid.y))
    mesh = np.meshgrid(x, y)
    low, high = (LinearTriInterpolator(grid, bands[i])(*mesh) for i in (1, 3))
    inside = np.ma.minimum(level - low, high - level)  # excluded at -1 sigma, not at +1
    if inside.count() and inside.max() > 0:
        top = float(inside.max()) + 1.0
        ax.contourf(x, y, inside, levels=[0.0, top], colors=[style.ONE_SIGMA], alpha=0.6)
