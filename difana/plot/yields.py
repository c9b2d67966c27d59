"""Data and the yields of a model, before and after a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana.infer import YieldsResult
from difana.plot import _style as style
from difana.plot.data_mc import data_mc

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def yields(
    *results: YieldsResult,
    channel: str,
    data: ArrayLike | None = None,
    edges: ArrayLike | None = None,
    signal: str | None = None,
    label: str | None = "difana",
    xlabel: str | None = None,
    log: bool = False,
) -> Figure:
    """Draw the stacked samples of one channel with data and their ratio: one column a result.

    Args:
        results: What :func:`difana.infer.yields` returned, e.g. before and after the fit.
        channel: Name of the channel.
        data: Observed yields of all bins of the model (auxiliary data may follow); None for a
            blind picture.
        edges: Bin edges; bins are numbered by default.
        signal: Name of a sample that is also drawn alone as a line.
        label: Left title in bold; None for nothing.
        xlabel: Name and unit of the observable.
        log: Logarithmic yields.

    Returns:
        The figure.

    Raises:
        InputError: If there is no result, or the data do not hold the bins of the channel.
        ModelError: If there is no such channel.

    Example:
        >>> from difana.infer import yields as expected
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> figure = yields(expected(model), channel="SR", data=[55.0, 60.0])
        >>> figure.axes[0].get_title(loc="right")
        'SR, pre-fit'
    """
    if not results:
        raise InputError("there are no yields to draw")
    columns = [result.channel(channel) for result in results]
    observed = None
    if data is not None:
        layout = next(c for c in results[0].structure.channels if c.name == channel)
        every = np.asarray(data, float)
        if every.ndim != 1 or every.size < results[0].structure.bins:
            raise InputError(
                f"data of shape {every.shape} do not hold the {results[0].structure.bins} bins of "
                "the model"
            )
        observed = every[layout.start : layout.start + layout.bins]
    if edges is None:
        edges = np.arange(len(columns[0]["yields"]) + 1) + 0.5
        xlabel = "bin" if xlabel is None else xlabel
    axes = style.new_axes(
        2, len(results), size=(6.0 * len(results), 5.4), heights=(3, 1), share_x=True
    )
    for i, (result, numbers) in enumerate(zip(results, columns, strict=True)):
        samples = {name: s["yields"] for name, s in numbers["samples"].items()}
        data_mc(
            edges,
            samples,
            observed,
            numbers["errors"],
            title=f"{channel}, {result.label}",
            label=label,
            xlabel=xlabel or "observable",
            signal=signal,
            log=log,
            axes=list(axes[:, i]),
        )
    tops = [ax.get_ylim() for ax in axes[0]]
    for ax in axes[0]:  # one scale, to compare by eye
        ax.set_ylim(min(low for low, _ in tops), max(high for _, high in tops))
    return style.figure_of(axes[0, 0])
