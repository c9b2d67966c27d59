"""The ranking: impacts of the nuisance parameters with their pulls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana.infer import ImpactsResult
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def impacts(
    result: ImpactsResult,
    *,
    most: int | None = 20,
    bins: int | None = None,
    title: str = "",
    label: str | None = "difana",
    ax: Axes | None = None,
) -> Figure:
    r"""Draw pre- and post-fit impacts, the largest on top, and the pulls over them.

    The lower axis shows the pulls, the upper one the change of the parameter of interest.
    Parameters without constraint have no pull.

    Args:
        result: What :func:`difana.infer.impacts` returned.
        most: Draw this many only; None for all.
        bins: Draw at most so many factors of single bins (staterror, shapesys), so that they do not
            hide the others; None for all.
        title: Right title.
        label: Left title in bold; None for nothing.
        ax: Axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If there are no nuisance parameters.

    Example:
        >>> from difana.infer import impacts as find
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> axes = impacts(find(model, method="gradient")).axes[0]
        >>> [text.get_text() for text in axes.get_yticklabels()]
        ['unc[1]', 'unc[0]']
    """
    ranking = result.ranking
    single = np.array(["[" in result.names[i] for i in ranking], bool)
    if bins is not None:
        ranking = ranking[~single | (np.cumsum(single) <= bins)]
    chosen = ranking[:most]
    if chosen.size == 0:
        raise InputError("there is no nuisance parameter to draw")

    def of(values: object) -> np.ndarray:
        return np.asarray(values)[chosen]

    widths = of(result.widths)
    divisor = np.where(widths > 0, widths, 1.0)
    pulls = (of(result.params) - of(result.centers)) / divisor
    errors = of(result.uncertainties) / divisor
    at = np.arange(chosen.size)[::-1]
    ax = ax if ax is not None else style.one_axes(size=(6.4, 2.4 + 0.3 * chosen.size))
    top = ax.twiny()
    ax.set_zorder(top.get_zorder() + 1)  # the pulls stand over the bars
    ax.patch.set_visible(False)
    for up, down, filled, name in (
        (result.prefit_up, result.prefit_down, False, "pre-fit"),
        (result.postfit_up, result.postfit_down, True, "post-fit"),
    ):
        for values, color, sign in ((up, style.BLUE, "+"), (down, "#E69F00", "-")):
            top.barh(
                at, of(values), height=0.75, fill=filled, facecolor=color, edgecolor=color,
                alpha=0.75 if filled else 1.0,
                label=rf"{name} $\theta = \hat{{\theta}} {sign} \Delta\theta$",
            )  # fmt: skip
    shown = (widths > 0) & (errors > 0)
    ax.errorbar(
        pulls[shown], at[shown], xerr=errors[shown], fmt="o", color=style.BLACK, markersize=4,
        label="pull",
    )  # fmt: skip
    for x in (-1, 0, 1):
        ax.axvline(x, color=style.BLACK, linewidth=0.7, linestyle=":")
    largest = max(float(np.max(np.abs(of(getattr(result, f"{stage}_{side}")))))
                  for stage in ("prefit", "postfit") for side in ("up", "down"))  # fmt: skip
    reach = np.max(np.abs(pulls[shown]) + errors[shown], initial=1.8) * 1.1
    top.set_xlim(-1.1 * largest or -1.0, 1.1 * largest or 1.0)
    ax.set_xlim(-reach, reach)
    ax.set_yticks(at, [result.names[i] for i in chosen])
    ax.set_ylim(-0.7, chosen.size - 0.3)
    style.dress(ax, xlabel=r"$(\hat{\theta} - \theta_0) / \Delta\theta$")
    ax.tick_params(axis="x", which="both", top=False)
    ax.tick_params(axis="y", which="minor", left=False, right=False)
    top.tick_params(which="both", direction="in")
    top.set_xlabel(f"change of {result.poi}", loc="right")
    best = f"{result.poi} = {float(result.value):.3g} ± {float(result.uncertainty):.2g}"
    style.dress(top, title=title or best, label=label)
    figure = style.figure_of(ax)
    handles, names = top.get_legend_handles_labels()
    more, extra = ax.get_legend_handles_labels()
    figure.legend(handles + more, names + extra, fontsize=8, frameon=False, ncols=3,
                  loc="outside lower center")  # fmt: skip
    return figure
