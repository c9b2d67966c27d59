"""The sources of the uncertainty of one parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.infer import UncertaintySplit
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def uncertainty_split(
    result: UncertaintySplit,
    *,
    most: int | None = 20,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw total, statistical and systematic part, the groups, and the largest sources.

    Args:
        result: What :func:`difana.infer.uncertainty_split` returned.
        most: Draw this many sources only; None for all.
        title: Right title; by default the parameter with its uncertainty.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If the result is one of :func:`difana.infer.impacts`.

    Example:
        >>> from difana.infer import uncertainty_split as find
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
        >>> found = find(model, kind="global", method="gradient")
        >>> [text.get_text() for text in uncertainty_split(found, most=1).axes[0].get_yticklabels()]
        ['total', 'statistical', 'systematic', 'mc_statistics', 'uncorr_bkguncrt[1]']
    """
    if not isinstance(result, UncertaintySplit):
        raise InputError("draw what infer.impacts returns with difana.plot.impacts")
    parts = [
        ("total", float(result.uncertainty)),
        ("statistical", float(result.statistical)),
        ("systematic", float(result.systematic)),
    ]
    parts += zip(result.group_names, np.asarray(result.groups).tolist(), strict=True)
    bars = [(name, size, -size, style.GREY) for name, size in parts]
    chosen = result.ranking[:most]
    ends = (np.asarray(side)[chosen].tolist() for side in (result.up, result.down))
    names = [result.names[i] for i in chosen]
    bars += [(name, up, down, style.BLUE) for name, up, down in zip(names, *ends, strict=True)]
    ax = ax if ax is not None else style.one_axes(size=(6.5, 1.6 + 0.28 * len(bars)))
    at = np.arange(len(bars))[::-1]
    for place, (_, up, down, color) in zip(at, bars, strict=True):
        ax.barh(place, up, height=0.7, color=color, alpha=0.9)
        ax.barh(place, down, height=0.7, color=color, alpha=0.45)
    ax.axvline(0, color=style.BLACK, linewidth=0.8)
    ax.set_yticks(at, [name for name, *_ in bars])
    ax.set_ylim(-0.7, len(bars) - 0.3)
    best = f"{result.poi} = {float(result.value):.3g} ± {float(result.uncertainty):.2g}"
    style.dress(ax, title=title or best, label=label, xlabel=f"change of {result.poi}")
    ax.tick_params(axis="y", which="minor", left=False, right=False)
    return style.figure_of(ax)
