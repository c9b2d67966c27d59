"""The correlation matrix of a fit, without the parameters that hardly correlate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.infer import FitResult
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def correlation(
    result: FitResult,
    *,
    threshold: float = 0.2,
    bins: bool = True,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw the correlations, in percent, of parameters that correlate with another one.

    Args:
        result: The fit.
        threshold: Smallest correlation, of either sign, with any other parameter; 0 for all
            parameters with an uncertainty.
        bins: Also draw factors of single bins (staterror, shapesys).
        title: Right title.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If no parameter correlates that strongly.

    Example:
        >>> from difana.infer import fit
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> axes = correlation(fit(model, model.data([55.0, 60.0]))).axes[0]
        >>> [text.get_text() for text in axes.get_yticklabels()]
        ['mu', 'unc[0]', 'unc[1]']
    """
    matrix = np.asarray(result.correlation)
    free = (np.diag(matrix) > 0) & np.array([bins or "[" not in n for n in result.names], bool)
    others = np.abs(matrix - np.diag(np.diag(matrix))) * free
    chosen = np.flatnonzero(free & (others.max(axis=1, initial=0.0) >= threshold))
    if chosen.size == 0:
        raise InputError(f"no two parameters correlate by {threshold:g}: lower the threshold")
    shown = matrix[np.ix_(chosen, chosen)]
    side = max(2.2 + 0.38 * chosen.size, 5.0)  # below, titles would meet
    ax = ax if ax is not None else style.one_axes(size=(side + 0.8, side))
    image = ax.imshow(100 * shown, cmap="RdBu_r", vmin=-100, vmax=100)
    if chosen.size <= 40:
        for (i, j), value in np.ndenumerate(shown):
            color = "white" if abs(value) > 0.6 else style.BLACK
            ax.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=color, fontsize=8)
    names = [result.names[i] for i in chosen]
    ax.set_xticks(np.arange(chosen.size), names, rotation=60, ha="right")
    ax.set_yticks(np.arange(chosen.size), names)
    figure = style.figure_of(ax)
    figure.colorbar(image, ax=ax, label="correlation [%]", shrink=0.8)
    style.dress(ax, title=title, label=label)
    ax.tick_params(which="both", length=0)
    ax.minorticks_off()
    return figure
