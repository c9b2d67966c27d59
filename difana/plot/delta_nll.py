"""Where two fits differ: bars of the change of the nll by bin and by constraint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.infer import DeltaNllResult
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def delta_nll(
    result: DeltaNllResult,
    *,
    most: int | None = 20,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw the change of each term of the nll between two fits, the largest on top.

    Args:
        result: What :func:`difana.infer.delta_nll` returned.
        most: Draw this many only, and the sum of the others; None for all.
        title: Right title; by default the whole change.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If there is nothing to draw.

    Example:
        >>> import jax.numpy as jnp
        >>> found = DeltaNllResult(jnp.array([0.5, -0.1]), jnp.array([0.2]), jnp.array(0.6),
        ...                        jnp.array(0), ("SR[0]", "SR[1]"), ("jes",), ("b", "s+b"))
        >>> [text.get_text() for text in delta_nll(found, most=2).axes[0].get_yticklabels()]
        ['bin SR[0]', 'constraint jes', '1 others']
    """
    rows = result.rows()
    if not rows:
        raise InputError("there is no bin and no constraint to draw")
    shown = rows[:most]
    if len(shown) < len(rows):
        rest = sum(value for _, value in rows[len(shown) :])
        shown.append((f"{len(rows) - len(shown)} others", rest))
    names, values = [name for name, _ in shown], np.array([value for _, value in shown])
    at = np.arange(len(names))[::-1]
    ax = ax if ax is not None else style.one_axes(size=(6.0, 1.6 + 0.3 * len(names)))
    colors = [style.BLUE if name.startswith("bin") else "#E69F00" for name in names]
    ax.barh(at, values, height=0.7, color=colors)
    ax.axvline(0, color=style.BLACK, linewidth=0.8)
    ax.set_yticks(at, names)
    ax.set_ylim(-0.7, len(names) - 0.3)
    first, second = result.labels
    style.dress(
        ax,
        title=title or f"sum {float(result.total):+.3g}",
        label=label,
        xlabel=f"nll({first}) - nll({second})",
    )
    ax.tick_params(axis="y", which="minor", left=False, right=False)
    return style.figure_of(ax)
