"""CLs against the signal strength, with the Brazil band."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana._rounding import rounded
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cls_scan(
    mu: ArrayLike,
    observed: ArrayLike | None,
    expected: ArrayLike,
    *,
    alpha: float = 0.05,
    limits: tuple[float | None, float] | None = None,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = r"signal strength $\mu$",
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw observed and expected CLs with the 1 and 2 sigma bands.

    Args:
        mu: Signal strengths, ``[points]``, increasing.
        observed: Observed CLs, ``[points]``; None for a blind picture.
        expected: Expected CLs, ``[points, 5]``, the quantiles -2 to +2 sigma in either order.
        alpha: Size of the test, drawn as a line; ``mu`` with CLs below it is excluded.
        limits: Observed (or None) and median expected upper limit, marked where they cross.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name of the parameter of interest.
        log: Logarithmic CLs.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If the shapes do not fit.

    Example:
        >>> figure = cls_scan([0.0, 1.0], [1.0, 0.1], [[1.0] * 5, [0.01, 0.05, 0.1, 0.2, 0.3]])
        >>> figure.axes[0].get_ylabel()
        '$\\mathrm{CL}_s$'
    """
    mu, expected = np.asarray(mu, dtype=float), np.asarray(expected, dtype=float)
    if mu.ndim != 1 or expected.shape != (mu.size, 5):
        raise InputError(
            f"mu {mu.shape} needs expected CLs of shape {(mu.size, 5)}, got {expected.shape}"
        )
    ax = ax if ax is not None else style.one_axes(size=(6.0, 4.5))
    outer_low, inner_low, median, inner_high, outer_high = np.sort(expected, axis=1).T
    ax.fill_between(
        mu,
        outer_low,
        outer_high,
        color=style.TWO_SIGMA,
        linewidth=0,
        label=r"expected $\pm 2\sigma$",
    )
    ax.fill_between(
        mu,
        inner_low,
        inner_high,
        color=style.ONE_SIGMA,
        linewidth=0,
        label=r"expected $\pm 1\sigma$",
    )
    ax.plot(mu, median, color=style.BLACK, linestyle="--", linewidth=1.5, label="expected (median)")
    if observed is not None:
        observed = np.asarray(observed, dtype=float)
        if observed.shape != mu.shape:
            raise InputError(f"observed CLs {observed.shape} do not fit mu {mu.shape}")
        ax.plot(mu, observed, color=style.BLACK, marker="o", markersize=3.5, label="observed")
    ax.axhline(alpha, color=style.VERMILION, linewidth=1.3, label=rf"$\alpha = {alpha:g}$")
    for limit, dashes, name in zip(
        limits or (), (":", "--"), ("observed", "expected"), strict=False
    ):
        if limit is not None and np.isfinite(limit):
            ax.plot(
                [limit, limit],
                [0 if not log else 1e-12, alpha],
                color=style.VERMILION,
                linestyle=dashes,
                marker="o",
                markevery=[1],
                markersize=5,
                label=rf"{name}: $\mu < {rounded(float(limit))}$",
            )
    if log:
        ax.set_yscale("log")
        ax.set_ylim(min(0.5 * alpha, max(float(median.min()), 1e-4)), 3)
    else:
        ax.set_ylim(0, 1.05)
    ax.set_xlim(mu[0], mu[-1])
    style.dress(ax, title=title, label=label, xlabel=xlabel, ylabel=r"$\mathrm{CL}_s$")
    ax.legend(frameon=not log, framealpha=0.9, edgecolor="none", fontsize=9)
    return style.figure_of(ax)
