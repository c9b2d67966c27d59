"""The envelope of a discrete profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana.infer import DiscreteProfileResult
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def envelope(
    result: DiscreteProfileResult,
    *,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw the corrected profile likelihoods of all models, their envelope and its interval.

    Args:
        result: What :func:`difana.infer.discrete_profile` returned.
        title: Right title; by default the interval.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Example:
        >>> from difana.infer import discrete_profile
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
        >>> data = model.data([55.0, 60.0])
        >>> found = discrete_profile([model], data, values=[0.0, 0.5, 1.0], names=["flat"])
        >>> [text.get_text() for text in envelope(found).axes[0].get_legend().get_texts()]
        ['flat', 'envelope']
    """
    ax = ax if ax is not None else style.one_axes(size=(6.0, 4.5))
    grid, curves = np.asarray(result.grid), np.asarray(result.curves)
    for name, curve in zip(result.names, curves, strict=True):
        ax.plot(grid, curve, linewidth=1.1, linestyle="--", label=name)
    ax.plot(grid, np.asarray(result.envelope), color=style.BLACK, linewidth=2.0, label="envelope")
    lower, upper = float(result.lower), float(result.upper)
    ax.axvspan(lower, upper, color=style.ONE_SIGMA, alpha=0.4, linewidth=0)
    ax.axvline(float(result.value), color=style.VERMILION, linewidth=1.0, linestyle=":")
    ax.set_xlim(grid.min(), grid.max())
    top = 1.3 * float(np.max(np.asarray(result.envelope))) or 1.0
    ax.set_ylim(min(0.0, float(curves.min())), top)
    ax.legend(fontsize=8, frameon=False)
    up, down = upper - float(result.value), float(result.value) - lower
    style.dress(
        ax,
        title=title
        or rf"{result.parameter} = ${float(result.value):.3g}^{{+{up:.2g}}}_{{-{down:.2g}}}$",
        label=label,
        xlabel=result.parameter,
        ylabel=r"$2\,\Delta\,\mathrm{NLL}$ + penalty",
    )
    return style.figure_of(ax)
