"""Shapes of the observable by sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def scores(
    samples: Mapping[str, ArrayLike],
    weights: Mapping[str, ArrayLike] | None = None,
    *,
    bins: int | ArrayLike = 40,
    edges: ArrayLike | None = None,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = "observable",
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the normalised distribution of the observable, one line a sample.

    Args:
        samples: Values of the observable by sample, ``[events]``.
        weights: Event weights by sample, ``[events]``; missing samples count each event once.
        bins: Number of equal bins between the smallest and largest value, or their edges.
        edges: Edges of the analysis, drawn as thin vertical lines.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of the observable.
        log: Logarithmic density.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If there is no sample, one is empty, or a value is not finite.

    Example:
        >>> figure = scores({"signal": [0.8, 0.9], "background": [0.1, 0.3]}, bins=5)
        >>> len(figure.axes[0].get_legend().get_texts())
        2
    """
    values = {name: np.asarray(x, dtype=float).ravel() for name, x in samples.items()}
    if not values:
        raise InputError("there is no sample to draw")
    for name, x in values.items():
        if x.size == 0 or not np.isfinite(x).all():
            raise InputError(f"sample '{name}' must hold finite values, and at least one")
    ax = ax if ax is not None else style.one_axes()
    grid = np.histogram_bin_edges(
        np.concatenate(list(values.values())),
        bins=np.asarray(bins).item() if np.ndim(bins) == 0 else np.asarray(bins, dtype=float),
    )
    top, lowest = 0.0, np.inf
    for i, (name, x) in enumerate(values.items()):
        w = np.asarray((weights or {}).get(name, np.ones_like(x)), dtype=float)
        if w.shape != x.shape:
            raise InputError(f"sample '{name}' has {x.size} values and weights {w.shape}")
        counts, _ = np.histogram(x, bins=grid, weights=w)
        density = counts / ((w.sum() or 1.0) * np.diff(grid))
        ax.stairs(
            density,
            grid,
            color=style.LINES[i % len(style.LINES)],
            linestyle=style.DASHES[i % len(style.DASHES)],
            linewidth=1.8,
            fill=False,
            label=name,
        )
        top, lowest = max(top, density.max()), min(lowest, *density[density > 0], np.inf)
    if edges is not None:
        for edge in style.as_edges(edges)[1:-1]:
            ax.axvline(edge, color=style.GREY, linewidth=0.7, linestyle=":")
    style.headroom(ax, top, log=log, bottom=0.5 * lowest if np.isfinite(lowest) else 0.1)
    ax.set_xlim(grid[0], grid[-1])
    style.dress(ax, title=title, label=label, xlabel=xlabel, ylabel="density")
    ax.legend(frameon=False, fontsize=9, ncols=2 if len(values) > 3 else 1)
    return style.figure_of(ax)
