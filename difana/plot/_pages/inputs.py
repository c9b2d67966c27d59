"""The inputs of the networks: data and simulation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from difana._rounding import shown
from difana.plot._pages.look import Look
from difana.plot.data_mc import data_mc
from difana.plot.report import Section

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult


def inputs_section(result: AnalysisResult, look: Look) -> Section | None:
    """Return data against simulation for each input, those that separate best first."""
    parts = [_region(result, name, look) for name in result.inputs if result.inputs[name]]
    if not parts:
        return None
    if len(parts) == 1:
        return dataclasses.replace(parts[0], heading="Input variables")
    return Section("Input variables", parts=parts)


def _region(result: AnalysisResult, region: str, look: Look) -> Section:
    """Return the inputs in one trained region."""
    pictures, inputs = [], result.inputs[region]
    for own in sorted(inputs, key=lambda own: -own.separation):
        background = {look.called(name): y for name, y in own.background.items()}
        signal = {look.unit(name): own.samples[name] for name in own.signals}
        figure = data_mc(
            own.edges,
            background,
            own.data,
            own.errors,
            title=look.title(look.called(region)),
            label=look.label,
            xlabel=look.called(own.name),
            signal=signal,
            signal_factor="auto",
        )
        caption = f"{look.said(own.name)}: separation {shown(own.separation, 3)}."
        name = f"input_{own.name}" if len(result.inputs) == 1 else f"{region}_input_{own.name}"
        pictures.append(look.picture(name, figure, caption))
    what = "Data and simulation" if inputs[0].data is not None else "Simulation"
    names = len(result.config.columns) + len(result.config.channels)
    left = names - len(pictures)
    return Section(
        look.heading(region),
        f"{what} in {look.region(region)} before the fit; the band holds the statistics of the "
        "simulation and all systematic uncertainties. The outermost bins hold what lies outside."
        + (f" {left} inputs that separate less are not drawn." if left > 0 else ""),
        figures=pictures,
    )
