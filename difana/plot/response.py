"""The response matrix of an unfolding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana.plot import _style as style
from difana.unfold import Response

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def response(
    binned: Response,
    *,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw where the events of each truth bin are reconstructed, in percent.

    Args:
        binned: The binned problem, see ``difana.unfold.response``; bins of several observables
            are flattened.
        title: Right title; by default the range of the efficiencies.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Example:
        >>> import numpy as np
        >>> from difana import unfold
        >>> z = np.array([0.5, 1.5, 1.5])
        >>> problem = unfold.unfolding_problem(z, z, z)
        >>> binned = unfold.response(problem, gen_edges=[0, 1, 2], reco_edges=[0, 1, 2])
        >>> [text.get_text() for text in response(binned).axes[0].texts]
        ['100', '0', '0', '100']
    """
    matrix = 100 * np.asarray(binned.matrix)
    efficiency = 100 * np.asarray(binned.efficiency)
    ax = ax if ax is not None else style.one_axes(size=(5.6, 4.8))
    image = ax.imshow(matrix, cmap="viridis", vmin=0, origin="lower", aspect="auto")
    if matrix.size <= 144:
        half = matrix.max() / 2
        for (i, j), value in np.ndenumerate(matrix):
            color = "white" if value < half else style.BLACK
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)
    title = title or f"efficiency {efficiency.min():.0f} to {efficiency.max():.0f} %"
    style.dress(ax, title=title, label=label, xlabel="truth bin", ylabel="detector bin")
    ax.minorticks_off()
    figure = style.figure_of(ax)
    figure.colorbar(image, ax=ax, label="P(detector bin | truth bin) [%]", shrink=0.85)
    return figure
