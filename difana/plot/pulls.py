"""Pulls of the nuisance parameters after a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.infer import PullsResult
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pulls(
    result: PullsResult,
    *,
    bins: bool = False,
    most: int | None = 50,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw the pull of each constrained parameter, with its post-fit width in units of the prior.

    Args:
        result: What :func:`difana.infer.pulls` returned.
        bins: Also draw factors of single bins (staterror, shapesys).
        most: Draw this many only, those pulled or narrowed most; None for all.
        title: Right title.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If no parameter is left to draw.

    Example:
        >>> import jax.numpy as jnp
        >>> one = jnp.ones(1)
        >>> found = PullsResult(0.5 * one, 0.8 * one, 0 * one, one, one > 0, jnp.array(0), ("jes",))
        >>> [text.get_text() for text in pulls(found).axes[0].get_yticklabels()]
        ['jes']
    """
    values, ratios = np.asarray(result.pulls), np.asarray(result.ratios)
    keep = np.asarray(result.free) & np.array([bins or "[" not in n for n in result.names], bool)
    chosen = np.flatnonzero(keep)
    if chosen.size == 0:
        raise InputError("no fitted nuisance parameter to draw: use bins=True for those of bins")
    if most is not None and chosen.size > most:
        weight = np.maximum(np.abs(values), 1 - ratios)[chosen]
        chosen = np.sort(chosen[np.argsort(-weight, kind="stable")[:most]])
    at = np.arange(chosen.size)[::-1]
    ax = ax if ax is not None else style.one_axes(size=(6.0, 1.4 + 0.26 * chosen.size))
    reach = max(2.2, 1.1 * float(np.max(np.abs(values[chosen]) + ratios[chosen])))
    ax.axvspan(-2, 2, color=style.PALE_TWO_SIGMA, linewidth=0)
    ax.axvspan(-1, 1, color=style.PALE_ONE_SIGMA, linewidth=0)
    ax.axvline(0, color=style.BLACK, linewidth=0.8, linestyle=":")
    ax.errorbar(values[chosen], at, xerr=ratios[chosen], fmt="o", color=style.BLACK, markersize=4)
    ax.set_yticks(at, [result.names[i] for i in chosen])
    ax.set_ylim(-0.7, chosen.size - 0.3)
    ax.set_xlim(-reach, reach)
    xlabel = r"$(\hat{\theta} - \theta_0) / \Delta\theta$"
    style.dress(ax, title=title, label=label, xlabel=xlabel)
    ax.tick_params(axis="y", which="minor", left=False, right=False)
    return style.figure_of(ax)
