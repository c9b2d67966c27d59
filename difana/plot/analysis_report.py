"""Every picture of an analysis, and the report that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from difana._errors import InputError
from difana.plot._pages.grid import grid_sections
from difana.plot._pages.inputs import inputs_section
from difana.plot._pages.limits import comparison_section, result_section
from difana.plot._pages.look import look_of
from difana.plot._pages.nuisances import nuisances_section
from difana.plot._pages.observable import observable_section
from difana.plot._pages.training import (
    cuts_section,
    record_section,
    symbols_section,
    systematics_section,
    training_section,
)
from difana.plot._pages.yields import yields_section
from difana.plot.report import report

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult, GridResult


def analysis_report(result: AnalysisResult | GridResult, out: str | Path | None = None) -> Path:
    """Draw everything about an analysis: PNG files in ``plots`` and a self-contained report.

    Limits, comparison of observables, yields, pulls and ranking, correlations, observable, inputs,
    systematic variations, training. The keys ``Label``, ``Energy`` and ``LuminosityLabel`` of
    ``General`` stand on every picture, ``Labels`` say what they call things.

    Args:
        result: What `difana.analysis.run` returned; of a grid, all points get reports, too.
        out: Folder of ``plots/`` and ``report.html``; that of the result by default.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: If the folder does not exist.
    """
    from difana.analysis import GridResult, reading

    out = Path(result.out if out is None else out)
    if not out.is_dir():
        raise InputError(f"cannot write the report: there is no folder {out}")
    (out / "plots").mkdir(exist_ok=True)
    look = look_of(result.config, out / "plots")
    if isinstance(result, GridResult):
        for point in result.points:
            analysis_report(point)
        return report(
            out / "report.html",
            title=result.summary["measurement"],
            subtitle=" · ".join(part for part in (look.label, look.conditions) if part),
            sections=grid_sections(result, look),
        )
    sections = [
        result_section(result, look),
        cuts_section(result, look),
        comparison_section(result, look),
        yields_section(result, look),
        nuisances_section(reading(result), look),
        observable_section(result, look),
        inputs_section(result, look),
        systematics_section(result, look),
        training_section(result, look),
        symbols_section(result, look),
        record_section(result),
    ]
    kept = [section for section in sections if section is not None]
    said = [look.label, look.conditions, *map(look.region, result.summary["regions"])]
    return report(
        out / "report.html",
        title=result.summary["measurement"],
        subtitle=" · ".join(part for part in said if part),
        sections=kept,
    )
