"""How an iterative unfolding converges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.plot import _style as style
from difana.unfold import IterationReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = {
    "change": "mean change of the log weights",
    "effective": "effective fraction of the events",
    "chi2": "fold-forward chi2 per bin",
    "loss": "held-out loss",
}


def convergence(
    report: IterationReport,
    *,
    title: str = "",
    label: str | None = "difana",
    axes: np.ndarray | None = None,
) -> Figure:
    """Draw change, effective size, fold-forward chi2 and losses of each iteration, every replica.

    Args:
        report: The report of OmniFold, ``fit_omnifold(...).report``.
        title: Right title.
        label: Left title in bold; None for nothing.
        axes: ``[2, 2]`` axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If other axes are given.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.unfold import IterationReport
        >>> row, two = jnp.ones((3, 1)), jnp.ones((3, 1, 2))
        >>> import inspect
        >>> names = list(inspect.signature(IterationReport).parameters)
        >>> made = IterationReport(**{n: two if n in ("loss", "epochs") else row for n in names})
        >>> convergence(made).axes[0].get_ylabel()
        'mean change of the log weights'
    """
    found = style.new_axes(2, 2, size=(8.0, 6.0), share_x=True) if axes is None else axes
    if np.shape(found) != (2, 2):
        raise InputError(f"this picture needs [2, 2] axes, got {np.shape(found)}")
    for ax, (name, text) in zip(np.ravel(found), _PANELS.items(), strict=True):
        values = np.asarray(getattr(report, name), float)
        iterations = np.arange(1, len(values) + 1)
        steps = np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None]
        for i, rows in enumerate(steps):
            color = style.LINES[i]
            ax.plot(iterations, rows[:, 1:], color=color, linewidth=0.6, alpha=0.5)
            name_of = f"step {i + 1}" if len(steps) > 1 else None
            ax.plot(iterations, rows[:, 0], color=color, marker="o", markersize=4, label=name_of)
        if len(steps) > 1:
            ax.legend(frameon=False, fontsize=9)
        if name == "change":
            ax.set_yscale("log")
        ax.set_xticks(iterations)
        style.dress(ax)
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
        ax.set_ylabel(text)
    for ax in found[1]:
        ax.set_xlabel("iteration")
    found[0, 0].set_title(label or "", loc="left", fontweight="bold", fontsize=12)
    found[0, 1].set_title(title, loc="right", fontsize=10)
    return style.figure_of(found[0, 0])
