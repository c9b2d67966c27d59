"""Which input matters, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana.analysis import Importance, Profile
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {
    "gradient": "gradient of the observable",
    "shuffled": "loss when shuffled",
    "stretch": "sensitivity to the scale",
}


def importance(
    result: Importance,
    *,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw how much each input matters, every measure relative to its largest value.

    Args:
        result: What :func:`difana.analysis.importance` returned.
        title: Right title.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Example:
        >>> figure = importance(Importance(("a", "b"), np.array([2.0, 1.0])))
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['b', 'a']
    """
    rows = {name: getattr(result, name) for name in _NAMES}
    rows = {name: np.abs(values) for name, values in rows.items() if values is not None}
    first = rows.get("shuffled", result.gradient)
    order = np.argsort(np.asarray(first), kind="stable")
    at = np.arange(order.size)
    ax = ax if ax is not None else style.one_axes(size=(6.0, 1.6 + 0.5 * order.size))
    height = 0.8 / len(rows)
    for i, (name, values) in enumerate(rows.items()):
        largest = float(np.max(values)) or 1.0
        place = at + 0.4 - height * (i + 0.5)
        color = style.LINES[i % len(style.LINES)]
        text = f"{_NAMES[name]} (largest: {largest:.3g})"
        ax.barh(place, values[order] / largest, height=0.9 * height, color=color, label=text)
    ax.set_yticks(at, [result.columns[i] for i in order])
    ax.set_xlim(0, 1.05)
    style.dress(ax, title=title, label=label, xlabel="importance / largest")
    ax.tick_params(axis="y", which="minor", left=False, right=False)
    figure = style.figure_of(ax)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center")
    return figure


def profile(
    result: Profile,
    *,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = "",
    ylabel: str = "mean observable",
    ax: Axes | None = None,
) -> Figure:
    """Draw the mean observable against one input, with its spread as a band.

    Args:
        result: One of those that :func:`difana.analysis.observable_profiles` returned.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of the input; its column by default.
        ylabel: Name of the observable.
        ax: Axes to draw into.

    Returns:
        The figure.

    Example:
        >>> found = Profile("mass", np.array([0.0, 1.0]), np.ones((1, 1)), np.ones((1, 1)), ("s",))
        >>> profile(found).axes[0].get_xlabel()
        'mass'
    """
    ax = ax if ax is not None else style.one_axes()
    for i, (name, mean, spread) in enumerate(
        zip(result.names, result.mean, result.spread, strict=True)
    ):
        color = style.LINES[i % len(style.LINES)]
        dash = style.DASHES[i % len(style.DASHES)]
        ax.stairs(mean, result.edges, baseline=None, color=color, linestyle=dash, label=name)
        ax.stairs(
            mean + spread, result.edges, baseline=mean - spread, fill=True, color=color, alpha=0.15
        )
    ax.set_xlim(result.edges[0], result.edges[-1])
    style.dress(ax, title=title, label=label, xlabel=xlabel or result.column, ylabel=ylabel)
    ax.legend(frameon=False, fontsize=9)
    return style.figure_of(ax)
