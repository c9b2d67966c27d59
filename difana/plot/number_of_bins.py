"""The expected limit against the number of bins: why the analysis has as many as it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from difana._errors import InputError
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def number_of_bins(
    curves: Mapping[str, Mapping[str, Any]],
    *,
    title: str = "",
    label: str | None = "difana",
    ylabel: str = "expected limit, relative to the chosen number of bins",
    ax: Axes | None = None,
) -> Figure:
    """Draw the limit on held-out events against the number of bins, one line an observable.

    Args:
        curves: Mappings with ``bins``, ``limits``, ``errors`` (of the difference to the chosen
            number) and ``chosen``, by observable, as ``training: bins`` in ``result.json``.
        title: Right title.
        label: Left title in bold; None for nothing.
        ylabel: Meaning of the numbers.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If there is no curve, or the chosen number is not one of its bins.

    Example:
        >>> curve = {"bins": [2, 4, 8], "limits": [1.2, 1.0, 0.99], "errors": [0.05, 0.0, 0.02],
        ...          "chosen": 4}
        >>> ax = number_of_bins({"score": curve}).axes[0]
        >>> [round(float(y), 2) for y in ax.lines[0].get_ydata()]
        [1.2, 1.0, 0.99]
    """
    if not curves:
        raise InputError("there is no number of bins to draw")
    ax = ax if ax is not None else style.one_axes()
    every = sorted({int(n) for curve in curves.values() for n in curve["bins"]})
    shift = 0.012 * (np.arange(len(curves)) - (len(curves) - 1) / 2)
    for i, (name, curve) in enumerate(curves.items()):
        bins, limits, errors = (
            np.array([np.nan if x is None else float(x) for x in curve[key]])
            for key in ("bins", "limits", "errors")
        )
        if curve["chosen"] not in bins:
            raise InputError(f"'{name}': {curve['chosen']} bins were chosen, but {bins} were tried")
        unit = limits[bins == curve["chosen"]][0]
        color = style.LINES[i % len(style.LINES)]
        ax.errorbar(
            bins * (1 + shift[i]),  # beside each other
            limits / unit,
            yerr=errors / unit,
            color=color,
            linestyle=style.DASHES[i % len(style.DASHES)],
            marker="o",
            markersize=4,
            capsize=2,
            label=f"{name}: {curve['chosen']} bins",
        )
        ax.plot(curve["chosen"] * (1 + shift[i]), 1, "*", color=color, markersize=14)
    ax.axhline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    ax.set_xscale("log")
    ax.set_xticks(every, [str(n) for n in every])
    ax.minorticks_off()
    style.dress(ax, title=title, label=label, xlabel="number of bins", ylabel=ylabel)
    ax.legend(frameon=False, fontsize=9)
    return style.figure_of(ax)
