"""Unfolded distributions against truth, their covariance, and the report of an unfolding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana.plot import _style as style
from difana.plot.convergence import convergence
from difana.plot.report import Section, report
from difana.plot.response import response
from difana.plot.unfolding_weights import unfolding_weights
from difana.unfold import UnfoldedHistogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from difana.unfold import UnfoldingRun

_MARKERS = ("o", "s", "^", "D", "v", "P")


def unfolded(
    histograms: UnfoldedHistogram | Mapping[str, UnfoldedHistogram],
    *,
    truth: ArrayLike | None = None,
    simulated: ArrayLike | None = None,
    title: str = "",
    label: str | None = "difana",
    xlabel: str = "observable",
    log: bool = False,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Draw unfolded yields with errors, the truth, the simulation, and their ratios.

    The lower panel shows ratios to ``truth``; without it to ``simulated``; without both to the
    first histogram.

    Args:
        histograms: One unfolded histogram, or several by name, in the same bins of one axis.
        truth: True yields, ``[bins]``, where they are known.
        simulated: Simulated yields before the unfolding, ``[bins]``.
        title: Right title.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of the observable.
        log: Logarithmic yields.
        axes: Main and lower panel to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If a histogram has several axes or other bins.

    Example:
        >>> import jax.numpy as jnp
        >>> h = UnfoldedHistogram(
        ...     status=jnp.asarray(0), edges=(jnp.array([0.0, 1.0, 2.0]),),
        ...     values=jnp.array([4.0, 9.0]), covariance=jnp.diag(jnp.array([4.0, 9.0])),
        ... )
        >>> figure = unfolded({"OmniFold": h}, truth=[5.0, 8.0])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['truth', 'OmniFold']
    """
    found = {"unfolded": histograms} if isinstance(histograms, UnfoldedHistogram) else histograms
    if not found:
        raise InputError("there is no histogram to draw")
    for name, one in found.items():
        if one.values.ndim != 1:
            raise InputError(
                f"'{name}' has {one.values.ndim} axes: choose one with h.histogram(name)"
            )
    edges = style.as_edges(next(iter(found.values())).edges[0])
    values = {name: style.as_yields(name, one.values, edges) for name, one in found.items()}
    errors = {name: np.asarray(one.errors) for name, one in found.items()}
    lines = {"truth": truth, "simulated": simulated}
    drawn = {n: style.as_yields(n, y, edges) for n, y in lines.items() if y is not None}
    base_name, base = next(iter({**drawn, **values}.items()))
    main, lower = style.two_axes(axes)
    looks = {"truth": (style.BLACK, "-"), "simulated": (style.GREY, "--")}
    for name, yields in drawn.items():
        color, dash = looks[name]
        main.stairs(yields, edges, color=color, linestyle=dash, linewidth=1.4, label=name)
        lower.stairs(style.ratio(yields, base), edges, color=color, linestyle=dash, linewidth=1.2)
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    for i, name in enumerate(values):
        place = centres + widths * 0.12 * (i - (len(values) - 1) / 2)
        look = {"fmt": _MARKERS[i % len(_MARKERS)], "color": style.LINES[i % len(style.LINES)],
                "markersize": 4, "linewidth": 1.2}  # fmt: skip
        main.errorbar(place, values[name], yerr=errors[name], label=name, **look)
        lower.errorbar(
            place, style.ratio(values[name], base), yerr=style.ratio(errors[name], base), **look
        )
    top = max(float(np.max(values[name] + errors[name])) for name in values)
    top = max([top, *(float(y.max()) for y in drawn.values())])
    positive = base[base > 0]
    lowest = 0.3 * float(positive.min()) if positive.size else 0.1
    style.headroom(main, top, log=log, bottom=lowest)
    shown = [style.ratio(values[n], base) for n in values]
    off = np.nanmax(np.abs(np.concatenate(shown) - 1)) if positive.size else 0.5
    reach = float(np.clip(1.6 * off, 0.05, 1.0))
    lower.set_ylim(1 - reach, 1 + reach)
    lower.axhline(1, color=style.BLACK, linewidth=0.8, linestyle=":")
    for ax in (main, lower):
        ax.set_xlim(edges[0], edges[-1])
    style.dress(main, title=title, label=label, ylabel="events / bin")
    style.dress(lower, xlabel=xlabel)
    lower.set_ylabel(f"ratio to {base_name}")
    main.legend(frameon=False, fontsize=9, ncols=2 if len(values) + len(drawn) > 3 else 1)
    return style.figure_of(main)


def unfolded_correlation(
    histogram: UnfoldedHistogram,
    *,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    """Draw the correlation matrix of the bins of an unfolded histogram, in percent.

    Args:
        histogram: The unfolded histogram; bins of several axes are flattened.
        title: Right title.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Example:
        >>> import jax.numpy as jnp
        >>> h = UnfoldedHistogram(
        ...     status=jnp.asarray(0), edges=(jnp.array([0.0, 1.0, 2.0]),),
        ...     values=jnp.array([4.0, 9.0]), covariance=jnp.array([[4.0, 3.0], [3.0, 9.0]]),
        ... )
        >>> [text.get_text() for text in unfolded_correlation(h).axes[0].texts]
        ['100', '50', '50', '100']
    """
    matrix = 100 * np.asarray(histogram.correlation)
    bins = len(matrix)
    ax = ax if ax is not None else style.one_axes(size=(5.6, 4.8))
    image = ax.imshow(matrix, cmap="RdBu_r", vmin=-100, vmax=100, origin="lower")
    if bins <= 12:
        for (i, j), value in np.ndenumerate(matrix):
            color = "white" if abs(value) > 60 else style.BLACK
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)
    style.dress(ax, title=title, label=label, xlabel="bin", ylabel="bin")
    ax.minorticks_off()
    figure = style.figure_of(ax)
    figure.colorbar(image, ax=ax, label="correlation [%]", shrink=0.85)
    return figure


def unfolding_report(result: UnfoldingRun, out: str | Path | None = None) -> Path:
    """Write every picture of an unfolding into one self-contained HTML page.

    Args:
        result: What ``difana.unfold.run_unfolding`` returned.
        out: Folder of ``report.html``; that of the result by default.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: If the folder does not exist.
    """
    folder = Path(result.out if out is None else out)
    method = result.summary["method"]
    units = {entry.name: entry.unit for entry in result.config.observables}
    sections = []
    for name, h in result.histograms.items():
        figures = []
        if h.values.ndim == 1:
            unit = f" [{units[name]}]" if units.get(name) else ""
            simulated = result.simulated[name]
            figures.append(unfolded({method: h}, simulated=simulated, xlabel=f"{name}{unit}"))
        figures += [unfolded_correlation(h), response(result.responses[name])]
        sections.append(Section(name, f"Status: {h.message}.", figures=figures))
    if result.events is not None:
        figures = [unfolding_weights(result.events)]
        if result.report is not None:
            figures.append(convergence(result.report))
        sections.append(Section("weights", figures=figures))
    listed = [[key, result.summary[key]] for key in ("method", "fiducial", "luminosity")]
    listed += [[f"events, {key}", value] for key, value in result.summary["events"].items()]
    sections.append(Section("record", columns=("what", "value"), rows=listed))
    title = re.sub(r"\s+", " ", f"Unfolding by {method}")
    return report(folder / "report.html", title=title, sections=sections)
