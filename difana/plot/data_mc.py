"""Data and prediction, before or after a fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError, nearest
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# dark ones: the line must be seen on every sample of the stack
_SIGNALS = ("#B2182B", "#542788", style.BLACK)


def data_mc(
    edges: ArrayLike,
    samples: Mapping[str, ArrayLike],
    data: ArrayLike | None = None,
    total_uncertainty: ArrayLike | None = None,
    *,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = "observable",
    signal: str | Mapping[str, ArrayLike] | None = None,
    signal_factor: float | Literal["auto"] = 1.0,
    log: bool = False,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Draw stacked samples, their uncertainty, data, and the ratio of data to prediction.

    Args:
        edges: Bin edges, ``[bins + 1]``.
        samples: Yields of each sample, ``[bins]``, stacked from first to last.
        data: Observed events, ``[bins]``; with Poisson-like bars (square root). None for a blind
            picture.
        total_uncertainty: Standard deviation of the total prediction, ``[bins]``.
        title: Right title, e.g. ``"post-fit"``.
        label: Left title in bold, e.g. the experiment; None for nothing.
        xlabel: Name and unit of the observable.
        signal: Name of a sample of the stack that is also drawn alone as a line, or other yields
            by name that are drawn as lines and not stacked.
        signal_factor: Factor on the lines of the signal, named in the legend; ``"auto"``: 1, or a
            round number that makes a small signal visible.
        log: Logarithmic yields.
        axes: Main and lower panel to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If a row of yields does not fit the edges, or there is no such signal.

    Example:
        >>> figure = data_mc([0, 1, 2], {"background": [9.0, 5.0], "signal": [1.0, 3.0]}, [10, 7])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['signal', 'background', 'data']
    """
    import mplhep

    edges = style.as_edges(edges)
    stack = style.all_yields(samples, edges)
    total = np.sum(list(stack.values()), axis=0)
    error = np.zeros_like(total)
    if total_uncertainty is not None:
        error = style.as_yields("total_uncertainty", total_uncertainty, edges)
    main, lower = style.two_axes(axes)
    mplhep.histplot(
        [(values, edges) for values in stack.values()],
        stack=True,
        histtype="fill",
        label=list(stack),
        color=[style.PALETTE[i % len(style.PALETTE)] for i in range(len(stack))],
        edgecolor="white",
        linewidth=0.6,
        ax=main,
    )
    main.stairs(total, edges, color=style.BLACK, linewidth=1.0)
    top, positive = np.max(total + error), total[total > 0]
    lowest = 0.3 * positive.min() if positive.size else 0.1
    lines = _lines(signal, stack, edges)
    factor = signal_factor
    if factor == "auto":
        factor = _visible(lines, float(top), lowest if log else 0.0)
    for i, (name, values) in enumerate(lines.items()):
        main.stairs(
            factor * values,
            edges,
            color=_SIGNALS[i % len(_SIGNALS)],
            linewidth=2.0,
            linestyle=style.DASHES[(i + 1) % len(style.DASHES)],
            label=name if factor == 1 else rf"{name} $\times$ {_round_text(factor)}",
        )
        top = max(top, factor * values.max())
    if total_uncertainty is not None:
        style.band(main, edges, total - error, total + error, label="uncertainty")
        style.band(
            lower, edges, style.ratio(total - error, total), style.ratio(total + error, total)
        )
    if data is not None:
        observed = style.as_yields("data", data, edges)
        bars = np.sqrt(np.maximum(observed, 0))
        top = max(top, np.max(observed + bars))
        _points(main, edges, observed, bars, label="data")
        ratio = style.ratio(observed, total)
        _points(lower, edges, ratio, style.ratio(bars, total))
    style.headroom(main, float(top), log=log, bottom=lowest)
    lower.axhline(1, color=style.BLACK, linewidth=0.8, linestyle=":")
    lower.set_ylim(*_ratio_range(lower))
    if data is not None:
        _arrows(lower, edges, ratio)
    main.set_xlim(edges[0], edges[-1])
    lower.set_xlim(edges[0], edges[-1])
    style.dress(main, title=title, label=label, ylabel="events / bin")
    style.dress(lower, xlabel=xlabel)
    lower.set_ylabel("data / pred." if data is not None else "rel. unc.")
    _legend(main, stack)
    return style.figure_of(main)


def _lines(
    signal: str | Mapping[str, ArrayLike] | None, stack: dict[str, np.ndarray], edges: np.ndarray
) -> dict[str, np.ndarray]:
    if not signal:
        return {}
    if isinstance(signal, str):
        if signal not in stack:
            raise InputError(f"no sample '{signal}' in {list(stack)}.{nearest(signal, stack)}")
        return {f"{signal} (alone)": stack[signal]}
    return style.all_yields(signal, edges)


def _visible(lines: Mapping[str, np.ndarray], top: float, bottom: float) -> float:
    """Return 1 or a round factor that lifts the largest line well into the picture."""
    largest = max((values.max() for values in lines.values()), default=0.0)
    least, wanted = (2 * bottom, 10 * bottom) if bottom else (0.1 * top, 0.4 * top)
    if not 0 < largest < least:
        return 1.0
    power = 10.0 ** math.floor(math.log10(wanted / largest))
    return max(step * power for step in (1, 2, 5) if step * power <= wanted / largest)


def _round_text(factor: float) -> str:
    return f"{factor:g}" if 1e-3 <= factor < 1e5 else f"{factor:.0e}"


def _arrows(ax: Axes, edges: np.ndarray, values: np.ndarray) -> None:
    """Mark points beyond the panel by arrows at its border."""
    centers, (low, high) = (edges[:-1] + edges[1:]) / 2, ax.get_ylim()
    for beyond, at, marker in ((values > high, high, "^"), (values < low, low, "v")):
        shown = centers[beyond]
        where = at + (0.06 if marker == "v" else -0.06) * (high - low)
        ax.plot(shown, np.full(shown.size, where), marker, color=style.BLACK, markersize=6)


def _points(
    ax: Axes, edges: np.ndarray, values: np.ndarray, bars: np.ndarray, *, label: str | None = None
) -> None:
    ax.errorbar(
        (edges[:-1] + edges[1:]) / 2,
        values,
        yerr=bars,
        fmt="o",
        color=style.BLACK,
        markersize=4,
        linewidth=1.2,
        label=label,
        zorder=4,
    )


def _ratio_range(ax: Axes) -> tuple[float, float]:
    """Return a range symmetric about 1 that holds what is drawn, between 5 % and 100 %."""
    low, high = ax.dataLim.y0, ax.dataLim.y1
    reach = max(abs(high - 1), abs(low - 1)) if np.isfinite([low, high]).all() else 0.5
    reach = float(np.clip(1.15 * reach, 0.05, 0.99))  # 0 would meet the axis below
    return 1 - reach, 1 + reach


def _legend(ax: Axes, stack: dict[str, np.ndarray]) -> None:
    """List the samples in the order of the stack, top first, then the rest."""
    handles, labels = ax.get_legend_handles_labels()
    names = list(stack)
    rank = [names[::-1].index(n) if n in stack else len(names) + i for i, n in enumerate(labels)]
    order = np.argsort(rank)
    ax.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        ncols=2 if len(labels) > 3 else 1,
        frameon=False,
        fontsize=9,
    )
