"""One look for all pictures: colours, axes, titles. Global matplotlib settings are not touched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK = "#000000"
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
GREY = "#6E6E6E"
ONE_SIGMA, TWO_SIGMA = "#56B4E9", "#F0E442"
PALE_ONE_SIGMA, PALE_TWO_SIGMA = "#BFE2F7", "#FAF6BC"

PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#F0E442", "#D55E00")
"""The colour-blind-safe colours of Okabe and Ito, for filled samples."""

LINES = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", BLACK)
"""The same colours, dark ones first, for lines on white."""

_TYPES = {  # of the experiment (weight, slant) and of its status
    "ATLAS": (("bold", "italic"), "normal"),
    "CMS": (("bold", "normal"), "italic"),
    "LHCb": (("normal", "normal"), "normal"),
}

DASHES = ("-", "--", "-.", ":")


def new_axes(
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float] = (6.0, 4.5),
    heights: Sequence[float] | None = None,
    share_x: bool = False,
) -> np.ndarray:
    """Return ``[rows, columns]`` axes of a new figure that pyplot does not know of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    if share_x:
        figure.set_layout_engine("constrained", h_pad=0.02, hspace=0.0)
    return figure.subplots(
        rows, columns, sharex="col" if share_x else False, squeeze=False, height_ratios=heights
    )


def one_axes(*, size: tuple[float, float] = (6.0, 4.5)) -> Axes:
    """Return the only axes of a new figure."""
    return new_axes(size=size)[0, 0]


def figure_of(ax: Axes) -> Figure:
    """Return the figure that ``ax`` stands in."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def two_axes(axes: Sequence[Axes] | None) -> tuple[Axes, Axes]:
    """Return a main panel and a panel below it, new ones unless two are given."""
    if axes is None:
        main, lower = new_axes(2, 1, size=(6.0, 5.4), heights=(3, 1), share_x=True)[:, 0]
        return main, lower
    if len(axes) != 2:
        raise InputError(f"this picture needs two axes (main and lower panel), got {len(axes)}")
    return axes[0], axes[1]


def dress(
    ax: Axes, *, title: str = "", label: str | None = None, xlabel: str = "", ylabel: str = ""
) -> None:
    """Give the axes their ticks and names: ``label`` at the left, ``title`` at the right.

    The first word of the label is the experiment, the rest the status ("CMS Preliminary"), each in
    the type that the experiment uses. A second line of the title stands lowest.
    """
    ax.tick_params(which="both", direction="in", top=True, right=True)
    if ax.get_xscale() == "linear" and ax.get_yscale() == "linear":
        ax.minorticks_on()
    if label:
        first, _, rest = label.partition(" ")
        (weight, slant), status = _TYPES.get(first, (("bold", "normal"), "normal"))
        own = ax.set_title(safe(first), loc="left", fontweight=weight, fontstyle=slant, fontsize=12)
        if rest:  # after the first word, wherever the layout puts that
            ax.annotate(
                safe(rest), (1, 0), xycoords=own, xytext=(5, 0), textcoords="offset points",
                va="bottom", fontsize=12, fontstyle=status, annotation_clip=False,
            )  # fmt: skip
    if title:
        ax.set_title(title, loc="right", fontsize=10)
    if xlabel:
        ax.set_xlabel(xlabel, loc="right")
    if ylabel:
        ax.set_ylabel(ylabel, loc="top")


def safe(text: str) -> str:
    r"""Return the text as it can be drawn: what is no valid mathematics is shown as it stands.

    Example:
        >>> safe("$m_{jj}$ [GeV]"), safe("$m_{jj"), safe("a $\\nothing$")
        ('$m_{jj}$ [GeV]', '\\$m_{jj', 'a \\$\\nothing\\$')
    """
    from matplotlib.mathtext import MathTextParser

    if "$" not in text:
        return text
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text if len(re.findall(r"(?<!\\)\$", text)) % 2 == 0 else text.replace("$", r"\$")


def symbol(parameter: str) -> str:
    r"""Return how a parameter is written in a picture.

    Example:
        >>> symbol("mu"), symbol("mu_ttH")
        ('$\\mu$', 'mu_ttH')
    """
    return r"$\mu$" if parameter == "mu" else safe(parameter)


def headroom(ax: Axes, top: float, *, log: bool, bottom: float = 0.5) -> None:
    """Leave space for the legend above the highest value ``top``."""
    if log:
        # Nearly empty bins would else stretch the axis over tens of decades.
        low = max(bottom, 1e-6 * top, 1e-12)
        high = max(top, 10 * low)
        # Limits first: matplotlib warns when it must find them on a logarithmic axis without data.
        ax.set_ylim(low, high * (high / low) ** 0.45)
        ax.set_yscale("log")
    else:
        ax.set_ylim(0, 1.45 * top if top > 0 else 1)


def as_edges(edges: ArrayLike) -> np.ndarray:
    """Return the edges as an increasing NumPy array."""
    out = np.asarray(edges, dtype=float)
    if out.ndim != 1 or out.size < 2 or not np.all(np.diff(out) > 0):
        raise InputError("edges must be one increasing row of at least two numbers")
    return out


def as_yields(name: str, values: ArrayLike, edges: np.ndarray) -> np.ndarray:
    """Return yields as NumPy numbers, one a bin."""
    out = np.asarray(values, dtype=float)
    if out.shape != (edges.size - 1,):
        raise InputError(f"'{name}' has shape {out.shape}, the edges make {edges.size - 1} bins")
    return out


def all_yields(samples: Mapping[str, ArrayLike], edges: np.ndarray) -> dict[str, np.ndarray]:
    """Return the yields of each sample as NumPy numbers."""
    if not samples:
        raise InputError("there is no sample to draw")
    return {name: as_yields(name, values, edges) for name, values in samples.items()}


def band(
    ax: Axes, edges: np.ndarray, low: np.ndarray, high: np.ndarray, *, label: str = ""
) -> None:
    """Draw a hatched uncertainty band."""
    ax.stairs(
        high,
        edges,
        baseline=low,
        fill=True,
        facecolor="none",
        edgecolor=GREY,
        hatch="/////",
        linewidth=0,
        label=label or None,
        zorder=1.5,
    )


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the ratio, NaN (not drawn) where the denominator is not positive."""
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, np.nan)
