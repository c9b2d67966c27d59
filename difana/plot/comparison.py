"""Limits side by side: difana and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from difana._errors import InputError
from difana._rounding import rounded
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def comparison(
    rows: Sequence[Mapping[str, Any]],
    *,
    highlight: str | None = None,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = r"expected upper limit on $\mu$ (smaller is better)",
    ax: Axes | None = None,
) -> Figure:
    """Draw one horizontal bar a method, with its number and how it compares with the best other.

    Args:
        rows: Mappings with ``name`` and ``value``, and optionally ``error`` (a spread), drawn
            from top to bottom.
        highlight: Name of the row drawn in the strong colour; the last one if not given.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Meaning of the numbers.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If there are no rows, one lacks name or value, or no row is the highlighted.

    Example:
        >>> rows = [{"name": "cross-entropy", "value": 0.5}, {"name": "difana", "value": 0.4}]
        >>> [text.get_text() for text in comparison(rows).axes[0].texts]
        ['0.500', '0.400 (-20.0 %)']
    """
    for i, row in enumerate(rows):
        if not {"name", "value"} <= set(row):
            raise InputError(f"row {i} of the comparison needs 'name' and 'value', has {list(row)}")
    if not rows:
        raise InputError("there are no rows to compare")
    names, values = [str(row["name"]) for row in rows], np.array([float(r["value"]) for r in rows])
    errors = np.array([float(row.get("error") or 0.0) for row in rows])
    chosen = highlight if highlight is not None else names[-1]
    if chosen not in names:
        raise InputError(f"no row '{chosen}' to highlight among {names}")
    ax = ax if ax is not None else style.one_axes(size=(7.0, 1.2 + 0.5 * len(rows)))
    at = np.arange(len(rows))[::-1]
    colors = [style.BLUE if name == chosen else "#B8B8B8" for name in names]
    # A missing result keeps its place, without a bar.
    lengths = np.where(np.isfinite(values), values, 0.0)
    ax.barh(
        at,
        lengths,
        xerr=errors if errors.any() else None,
        color=colors,
        height=0.62,
        error_kw={"ecolor": style.BLACK, "elinewidth": 1.2, "capsize": 3},
    )
    reach = float(np.max(lengths + errors)) or 1.0
    for i, name in enumerate(names):
        text = rounded(values[i], errors[i])
        others = values[[j for j in range(len(rows)) if j != i and np.isfinite(values[j])]]
        if name == chosen and others.size and np.isfinite(values[i]):
            text += f" ({100 * (values[i] / others.min() - 1):+.1f} %)"
        ax.text(
            lengths[i] + errors[i] + 0.015 * reach,
            at[i],
            text,
            va="center",
            fontsize=10,
            fontweight="bold" if name == chosen else "normal",
        )
    ax.set_yticks(at, names)
    ax.set_xlim(0, 1.32 * reach)
    style.dress(ax, title=title, label=label, xlabel=xlabel)
    ax.tick_params(axis="y", which="both", left=False, right=False)
    return style.figure_of(ax)
