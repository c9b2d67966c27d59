"""One systematic variation against the nominal template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def systematics(
    edges: ArrayLike,
    nominal: ArrayLike,
    up: ArrayLike,
    down: ArrayLike,
    *,
    uncertainty: ArrayLike | None = None,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = "observable",
    log: bool = False,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Draw nominal, up and down yields, and their relative difference below.

    Args:
        edges: Bin edges, ``[bins + 1]``.
        nominal: Nominal yields, ``[bins]``.
        up: Yields at +1 standard deviation, ``[bins]``.
        down: Yields at -1 standard deviation, ``[bins]``.
        uncertainty: Statistical standard deviation of the nominal yields, ``[bins]``, as a band.
        title: Right title, e.g. sample and systematic.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of the observable.
        log: Logarithmic yields.
        axes: Main and lower panel to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If a row of yields does not fit the edges.

    Example:
        >>> figure = systematics([0, 1, 2], [9.0, 5.0], [10.0, 4.0], [8.0, 6.0])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['nominal', '+1 sigma', '-1 sigma']
    """
    edges = style.as_edges(edges)
    named = {"nominal": nominal, "+1 sigma": up, "-1 sigma": down}
    yields = style.all_yields(named, edges)
    base = yields["nominal"]
    main, lower = style.two_axes(axes)
    reach = 0.01
    looks = ((style.BLACK, "-"), (style.VERMILION, "-"), (style.BLUE, "--"))
    for (name, values), (color, dashes) in zip(yields.items(), looks, strict=True):
        main.stairs(
            values, edges, color=color, linestyle=dashes, linewidth=1.6, label=name, zorder=2
        )
        if name != "nominal":
            shift = style.ratio(values, base) - 1
            lower.stairs(
                100 * shift,
                edges,
                color=color,
                linestyle=dashes,
                linewidth=1.6,
                baseline=None,
                zorder=2,
            )
            reach = max(reach, np.max(np.abs(shift[np.isfinite(shift)]), initial=0.0))
    if uncertainty is not None:
        error = style.as_yields("uncertainty", uncertainty, edges)
        style.band(main, edges, base - error, base + error, label="MC statistics")
        relative = 100 * style.ratio(error, base)
        style.band(lower, edges, -relative, relative)
        reach = max(reach, np.nanmax(relative, initial=0.0) / 100)
    reach = 125 * min(reach, 2.0)
    lower.set_ylim(-reach, reach)
    lower.axhline(0, color=style.BLACK, linewidth=0.8)
    positive = base[base > 0]
    top = max(values.max() for values in yields.values())
    style.headroom(main, top, log=log, bottom=0.3 * positive.min() if positive.size else 0.1)
    for ax in (main, lower):
        ax.set_xlim(edges[0], edges[-1])
    style.dress(main, title=title, label=label, ylabel="events / bin")
    style.dress(lower, xlabel=xlabel)
    lower.set_ylabel("shift [%]")
    main.legend(frameon=False, fontsize=9)
    return style.figure_of(main)
