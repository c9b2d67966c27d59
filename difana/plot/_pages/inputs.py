"""The inputs of the network: data and simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from difana._rounding import shown
from difana.plot._pages.look import Look
from difana.plot.data_mc import data_mc
from difana.plot.report import Section

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult


def inputs_section(result: AnalysisResult, look: Look) -> Section | None:
    """Return data against simulation for each input, those that separate best first."""
    if not result.inputs:
        return None
    pictures = []
    for own in sorted(result.inputs, key=lambda own: -own.separation):
        background = {look.called(name): y for name, y in own.background.items()}
        signal = {f"{look.called(name)} ({look.mu} = 1)": own.samples[name] for name in own.signals}
        figure = data_mc(
            own.edges,
            background,
            own.data,
            own.errors,
            title=look.title(look.called(result.config.trained.name)),
            label=look.label,
            xlabel=look.called(own.name),
            signal=signal,
            signal_factor="auto",
        )
        caption = f"{look.said(own.name)}: separation {shown(own.separation, 3)}."
        pictures.append(look.picture(f"input_{own.name}", figure, caption))
    what = "Data and simulation" if result.inputs[0].data is not None else "Simulation"
    names = len(result.config.columns) + len(result.config.channels)
    left = names - len(pictures)
    return Section(
        "Input variables",
        f"{what} in the trained region before the fit; the band holds the statistics of the "
        "simulation and all systematic uncertainties. The outermost bins hold what lies outside."
        + (f" {left} inputs that separate less are not drawn." if left > 0 else ""),
        figures=pictures,
    )
