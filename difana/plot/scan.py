"""Likelihood scans in one and two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.infer import ScanResult
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ONE = ((1.0, "68 %"), (3.8415, "95 %"))
_TWO = ((2.2957, "68 %", "-"), (5.9915, "95 %", "--"))  # quantiles of chi2 with 2 degrees


def scan(
    result: ScanResult,
    *,
    title: str = "",
    label: str | None = "difana",
    xlabel: str | None = None,
    ylabel: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw twice the rise of the profiled nll: a curve, or contours over two parameters.

    Args:
        result: What :func:`difana.infer.profile_scan` returned for one or two parameters.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name of the first parameter; as in the model by default.
        ylabel: Name of the second parameter.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If more than two parameters were scanned, or fewer than two points along one.

    Example:
        >>> from difana.infer import profile_scan
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> found = profile_scan(model, model.data([55.0, 60.0]), {"mu": [0.0, 0.5, 1.0]})
        >>> scan(found).axes[0].get_xlabel()
        'mu'
    """
    names = list(result.names)
    if len(names) > 2:
        raise InputError(f"a picture shows one or two parameters, not {len(names)}")
    if min(axis.size for axis in result.values) < 2:
        raise InputError("a picture needs at least two points along each parameter")
    ax = ax if ax is not None else style.one_axes(size=(6.0, 4.5))
    best = [float(result.best[name]) for name in names]
    rise = np.asarray(result.twice_delta_nll)
    x = np.asarray(result.values[0])
    xlabel = xlabel if xlabel is not None else names[0]
    if rise.ndim == 1:
        ax.plot(x, rise, color=style.BLUE, marker="o", markersize=3, linewidth=1.6)
        for value, name in _ONE:
            ax.axhline(value, color=style.GREY, linewidth=0.9, linestyle="--")
            ax.text(0.99, value, name, transform=ax.get_yaxis_transform(), ha="right", va="bottom",
                    fontsize=8, color=style.GREY)  # fmt: skip
        ax.axvline(best[0], color=style.VERMILION, linewidth=1.0, linestyle=":")
        ax.set_xlim(x.min(), x.max())
        ax.set_ylim(bottom=min(0.0, float(np.nanmin(rise))))
        ylabel = ylabel if ylabel is not None else r"$2\,\Delta\,\mathrm{NLL}$"
    else:
        _contours(ax, x, np.asarray(result.values[1]), rise)
        ax.plot(*best, marker="*", markersize=10, linestyle="none", color=style.VERMILION,
                label="best fit")  # fmt: skip
        ylabel = ylabel if ylabel is not None else names[1]
        ax.legend(frameon=False, fontsize=9)
    style.dress(ax, title=title, label=label, xlabel=xlabel, ylabel=ylabel)
    return style.figure_of(ax)


def _contours(ax: Axes, x: np.ndarray, y: np.ndarray, rise: np.ndarray) -> None:
    top = max(float(np.nanmax(rise)), 1e-9)
    shade = ax.contourf(x, y, rise.T, levels=np.linspace(min(0.0, float(np.nanmin(rise))), top, 25),
                        cmap="Blues_r")  # fmt: skip
    style.figure_of(ax).colorbar(shade, ax=ax, label=r"$2\,\Delta\,\mathrm{NLL}$")
    for value, name, dashes in _TWO:
        if np.nanmin(rise) < value < top:
            ax.contour(x, y, rise.T, levels=[value], colors=style.BLACK, linestyles=dashes)
            ax.plot([], [], color=style.BLACK, linestyle=dashes, label=name)
