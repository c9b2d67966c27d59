"""Soft against hard yields: how well the training saw the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def soft_hard(
    edges: ArrayLike,
    soft: Mapping[str, ArrayLike],
    hard: Mapping[str, ArrayLike],
    *,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = "observable",
    log: bool = False,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Draw soft (dashed) and hard (solid) yields by sample, and the relative bias below.

    Args:
        edges: Bin edges, ``[bins + 1]``.
        soft: Yields of the soft histogram by sample, ``[bins]``.
        hard: Yields of the ordinary histogram by sample, ``[bins]``.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of the observable.
        log: Logarithmic yields.
        axes: Main and lower panel to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If the samples differ or a row of yields does not fit the edges.

    Example:
        >>> figure = soft_hard([0, 1, 2], {"signal": [9.0, 5.0]}, {"signal": [8.0, 6.0]})
        >>> len(figure.axes)
        2
    """
    if set(soft) != set(hard):
        raise InputError(f"soft yields are of {sorted(soft)}, hard yields of {sorted(hard)}")
    edges = style.as_edges(edges)
    soft, hard = style.all_yields(soft, edges), style.all_yields(hard, edges)
    main, lower = style.two_axes(axes)
    largest, reach = 0.0, 0.01
    for i, name in enumerate(hard):
        color = style.LINES[i % len(style.LINES)]
        bias = style.ratio(soft[name], hard[name]) - 1
        main.stairs(hard[name], edges, color=color, linewidth=1.6, label=f"{name}, hard")
        main.stairs(
            soft[name], edges, color=color, linewidth=1.6, linestyle="--", label=f"{name}, soft"
        )
        lower.stairs(100 * bias, edges, color=color, linewidth=1.6, baseline=None)
        largest = max(largest, hard[name].max(), soft[name].max())
        reach = max(reach, np.max(np.abs(bias[np.isfinite(bias)]), initial=0.0))
    lowest = min(min(y[y > 0], default=1.0) for y in (*soft.values(), *hard.values()))
    style.headroom(main, largest, log=log, bottom=0.3 * lowest)
    reach = 115 * min(reach, 1.0)
    lower.set_ylim(-reach, reach)
    lower.axhline(0, color=style.BLACK, linewidth=0.8, linestyle=":")
    for ax in (main, lower):
        ax.set_xlim(edges[0], edges[-1])
    style.dress(main, title=title, label=label, ylabel="events / bin")
    style.dress(lower, xlabel=xlabel)
    lower.set_ylabel("soft/hard - 1 [%]")
    main.legend(ncols=min(len(hard), 3), frameon=False, fontsize=9)
    return style.figure_of(main)
