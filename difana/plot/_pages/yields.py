"""Yields of the regions before and after the fit, with uncertainties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from difana._rounding import rounded, shown
from difana.plot._pages.look import Look
from difana.plot.data_mc import data_mc
from difana.plot.report import Picture, Section

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult
    from difana.analysis.regions import RegionYields

BIN = "bin of the network's output"


def yields_section(result: AnalysisResult, look: Look) -> Section:
    """Return tables and pictures of all regions."""
    partly = any(region.observed for region in result.regions)
    fitted = "the data" if result.real_data else "background-only Asimov data"
    if partly and not result.real_data:
        fitted = "the data of the regions that are not blinded"
    return Section(
        "Yields",
        f"Before the fit, and after the fit to {fitted}. Uncertainties hold all nuisance "
        f"parameters with their correlations; signal before the fit is that of {look.all_at_one}.",
        parts=[_region(result, region, look) for region in result.regions],
    )


def _region(result: AnalysisResult, region: RegionYields, look: Look) -> Section:
    final, seen = result.statistics, region.observed
    before, unit = final.prefit.channel(region.name), final.unit.channel(region.name)
    after, rest = (part.channel(region.name) for part in (final.postfit, final.postfit_background))
    rows: list[list[Any]] = []
    for name in region.prefit:
        start = (unit if name in region.signal else before)["samples"][name]
        rows.append([look.said(name), _sum(start), _sum(after["samples"][name])])
    rows.append(["background", _sum(before), _sum(rest)])
    rows.append(["signal and background", _sum(unit), _sum(after)])
    if seen:
        count = f"{np.sum(region.data):g}"
        rows.append(["data", count, count])
    parts = [_bins(region, rest, look, seen=seen)]
    return Section(
        look.heading(region.name),
        columns=["process", "before the fit", "after the fit"],
        rows=rows,
        figures=_pictures(result, region, look),
        parts=parts,
    )


def _sum(numbers: Mapping[str, Any]) -> str:
    return rounded(numbers["sum"], numbers["sum_error"])


def _bins(region: RegionYields, after: Mapping[str, Any], look: Look, *, seen: bool) -> Section:
    signal = np.sum(list(region.signal.values()), axis=0) if region.signal else None
    columns = ["bin", *([] if signal is None else [f"signal ({look.all_at_one})"])]
    columns += ["background after the fit", "S / B", *(["data"] if seen else [])]
    rows = []
    for i, (mean, error) in enumerate(zip(after["yields"], after["errors"], strict=True)):
        s = None if signal is None else float(signal[i])
        share = s / mean if s is not None and mean > 0 else None
        row: list[Any] = [i + 1, *([] if s is None else [rounded(s)]), rounded(mean, error)]
        rows.append(
            [
                *row,
                "-" if share is None else f"{share:.2g}",
                *([shown(region.data[i], 0)] if seen else []),
            ]
        )
    return Section("Bin by bin", columns=columns, rows=rows)


def _pictures(result: AnalysisResult, region: RegionYields, look: Look) -> list[Picture]:
    edges, xlabel = axis(region, result, look)
    pictures = []
    for when, words in (("prefit", "before the fit"), ("postfit", "after the fit")):
        own = getattr(region, when)
        stack = {name: y for name, y in own.items() if name not in region.signal}
        if when == "postfit" and result.real_data:  # on top, so that the others keep their colours
            stack |= {name: own[name] for name in region.signal}
        figure = data_mc(
            edges,
            {look.called(name): y for name, y in stack.items()} or region.signal,
            region.data if region.observed else None,
            getattr(region, f"{when}_errors"),
            title=look.title(f"{look.called(region.name)}, {words}"),
            label=look.label,
            xlabel=xlabel,
            signal={look.unit(n): y for n, y in region.signal.items() if y.any()},
            signal_factor="auto",
            log=True,
        )
        caption = f"{look.region(region.name)} {words}: the band holds all uncertainties."
        pictures.append(look.picture(f"{region.name}_{when}", figure, caption))
    return pictures


def axis(region: RegionYields, result: AnalysisResult, look: Look) -> tuple[np.ndarray, str]:
    """Return edges and label; bins of the network are numbered, as their widths differ wildly."""
    if region.name not in result.summary["regions"]:
        return np.asarray(region.edges), look.called(region.xlabel)
    return np.arange(len(region.edges)) + 0.5, BIN
