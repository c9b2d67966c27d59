"""Upper limits over a grid of signals: the Brazil band."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def brazil(
    x: ArrayLike,
    expected: ArrayLike,
    observed: ArrayLike | None = None,
    *,
    theory: ArrayLike | None = None,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = "mass",
    ylabel: str = r"95 % CL upper limit on $\mu$",
    log: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw observed and expected upper limits with the 1 and 2 sigma bands against one parameter.

    Args:
        x: Parameter of the signal, e.g. its mass, ``[points]``, in any order.
        expected: Expected limits, ``[points, 5]``, the quantiles -2 to +2 sigma in either order.
        observed: Observed limits, ``[points]``; None for a blind picture.
        theory: Prediction in the units of the limits, ``[points]``; signals with limits below it
            are excluded.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of ``x``.
        ylabel: Name and unit of the limits.
        log: Logarithmic limits.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If the shapes do not fit.

    Example:
        >>> figure = brazil([300, 200], [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6]], xlabel="m [GeV]")
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [4.0, 3.0]
    """
    x, expected = np.asarray(x, float), np.asarray(expected, float)
    if x.ndim != 1 or expected.shape != (x.size, 5) or x.size == 0:
        raise InputError(
            f"{x.shape} signals need expected limits of shape {(x.size, 5)}, not {expected.shape}"
        )
    order = np.argsort(x, kind="stable")
    x, expected = x[order], np.sort(expected, axis=1)[order]

    def row(name: str, values: ArrayLike) -> np.ndarray:
        values = np.asarray(values, float)
        if values.shape != x.shape:
            raise InputError(f"{name} {values.shape} does not fit the {x.size} signals")
        return values[order]

    ax = ax if ax is not None else style.one_axes(size=(6.0, 4.5))
    for low, high, color, name in (
        (0, 4, style.TWO_SIGMA, r"expected $\pm 2\sigma$"),
        (1, 3, style.ONE_SIGMA, r"expected $\pm 1\sigma$"),
    ):
        ax.fill_between(x, expected[:, low], expected[:, high], color=color, linewidth=0,
                        label=name)  # fmt: skip
    ax.plot(x, expected[:, 2], color=style.BLACK, linestyle="--", label="expected")
    if observed is not None:
        ax.plot(x, row("observed", observed), color=style.BLACK, marker="o", markersize=3.5,
                label="observed")  # fmt: skip
    if theory is not None:
        ax.plot(x, row("theory", theory), color=style.VERMILION, label="prediction")
    if log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    if x.size > 1:
        ax.set_xlim(x[0], x[-1])
    style.dress(ax, title=title, label=label, xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, fontsize=9)
    return style.figure_of(ax)
