"""The weights of an unbinned unfolding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.plot import _style as style
from difana.unfold import UnfoldedEvents

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def unfolding_weights(
    events: UnfoldedEvents,
    *,
    bins: int = 60,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw the distribution of the unfolded weights, on logarithmic axes where all are positive.

    Args:
        events: The unfolded events.
        bins: Number of bins.
        title: Right title; by default the effective fraction of the events.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If no event is in the fiducial region.

    Example:
        >>> import jax.numpy as jnp
        >>> events = UnfoldedEvents(
        ...     status=jnp.asarray(0), observables=jnp.zeros((3, 1)), replicas={}, variations={},
        ...     weights=jnp.array([1.0, 1.0, 2.0]), fiducial=jnp.ones(3, bool),
        ... )
        >>> unfolding_weights(events).axes[0].get_title(loc="right")
        'effective events: 88.9 %'
    """
    weights = np.asarray(events.weights)[np.asarray(events.fiducial)]
    if not weights.size:
        raise InputError("no event is in the fiducial region: there are no weights to draw")
    ax = ax if ax is not None else style.one_axes()
    low, high = float(weights.min()), float(weights.max())
    if low == high:
        low, high = low - 0.5 * abs(low) - 1e-6, high + 0.5 * abs(high) + 1e-6
    log = low > 0
    edges = (np.geomspace if log else np.linspace)(low, high, bins + 1)
    counts = np.histogram(weights, edges)[0]
    ax.stairs(counts, edges, fill=True, color=style.PALETTE[0])
    if log:
        ax.set_xscale("log")
    ax.set_ylim(0.5, 3.0 * max(float(counts.max()), 1.0))
    ax.set_yscale("log")
    square = float(np.sum(weights**2))
    effective = 100 * float(weights.sum()) ** 2 / (len(weights) * square) if square else 0.0
    title = title or f"effective events: {effective:.1f} %"
    style.dress(ax, title=title, label=label, xlabel="unfolded weight", ylabel="events")
    return style.figure_of(ax)
