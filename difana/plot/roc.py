"""ROC curves of one or more observables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana.metrics.roc_auc import roc_auc
from difana.metrics.roc_curve import roc_curve
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 2000


def roc(
    scores: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    title: str = "",
    label: str | None = "difana",
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw signal against background efficiency, with the area under each curve.

    Args:
        scores: Scores of the events, ``[events]``, or several of them by name.
        labels: 1 for signal, 0 for background, ``[events]``.
        weights: Event weights, ``[events]``.
        title: Right title.
        label: Left title in bold; None for nothing.
        log: Draw the background rejection, on a logarithmic scale, against signal efficiency.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If there is nothing to draw, or as in ``difana.metrics.roc_auc``.

    Example:
        >>> figure = roc({"net": [0.1, 0.4, 0.35, 0.8]}, [0, 0, 1, 1])
        >>> figure.axes[0].get_legend().get_texts()[0].get_text()
        'net (AUC 0.7500)'
    """
    curves = scores if isinstance(scores, Mapping) else {"observable": scores}
    if not curves:
        raise InputError("there is no observable to draw")
    ax = ax if ax is not None else style.one_axes()
    labels = np.asarray(labels)
    weights = None if weights is None else np.asarray(weights, dtype=float)
    for i, (name, values) in enumerate(curves.items()):
        values = np.asarray(values, dtype=float)
        curve = roc_curve(values, labels, weights)
        # A curve of millions of points is a heavy picture and looks the same.
        keep = np.unique(np.linspace(0, values.size, min(values.size + 1, _POINTS)).astype(int))
        passing = np.asarray(curve.signal_efficiency)[keep]
        mistag = np.asarray(curve.background_efficiency)[keep]
        x, y = (passing, style.ratio(np.ones_like(mistag), mistag)) if log else (mistag, passing)
        ax.plot(
            x,
            y,
            color=style.LINES[i % len(style.LINES)],
            linestyle=style.DASHES[i % len(style.DASHES)],
            linewidth=1.8,
            label=f"{name} (AUC {float(roc_auc(values, labels, weights)):.4f})",
        )
    diagonal = np.linspace(0.001, 1, 200)
    chance = (diagonal, 1 / diagonal) if log else (diagonal, diagonal)
    ax.plot(*chance, color=style.GREY, linestyle=":", linewidth=1.2, label="chance")
    ax.set_xlim(0, 1)
    if log:
        ax.set_yscale("log")
        style.dress(ax, xlabel="signal efficiency", ylabel="1 / background efficiency")
    else:
        ax.set_ylim(0, 1.01)
        style.dress(ax, xlabel="background efficiency", ylabel="signal efficiency")
    style.dress(ax, title=title, label=label)
    ax.legend(frameon=False, fontsize=9, loc="upper right" if log else "lower right")
    return style.figure_of(ax)
