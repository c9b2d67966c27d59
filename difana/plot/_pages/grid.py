"""The page of a grid of signals: limits against the parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from difana.plot._pages.look import Look
from difana.plot.brazil import brazil
from difana.plot.history import history
from difana.plot.report import Section

if TYPE_CHECKING:
    from difana.analysis import GridResult


def grid_sections(result: GridResult, look: Look) -> list[Section]:
    """Return the sections of the page of a grid."""
    from difana.analysis.grid_result import grid_table

    summary = result.summary
    points, parameter = summary["grid"]["points"], summary["grid"]["parameter"]
    columns, rows = grid_table(summary)
    sigma = [p["cross_section"] for p in points]
    theory = np.ones(len(points))
    ylabel = f"95 % CL upper limit on {look.mu}"
    words = f"The line is {look.said(look.poi)} = 1, the prediction"
    if all(own is not None for own in sigma):
        theory, ylabel = np.array(sigma, float), "95 % CL upper limit on the cross-section"
        words = "The line is the predicted cross-section"
    real = all(p["observed"] is not None for p in points)
    figure = brazil(
        np.array([p["value"] for p in points], float),
        np.array([p["expected"] for p in points], float) * theory[:, None],
        np.array([p["observed"] for p in points], float) * theory if real else None,
        theory=theory,
        title=look.title(),
        label=look.label,
        xlabel=look.called(parameter),
        ylabel=ylabel,
    )
    caption = f"Upper limits for each signal. {words}: signals whose limit is below are excluded."
    text = (
        f"Upper limits on {look.said(look.poi)} at 95 % confidence level (CLs, asymptotic "
        "formulae), one network for all signals, which is told the "
        f"{look.said(parameter)}."
    )
    if result.message != "ok":
        text = f"These numbers cannot be trusted: {result.message}.\n\n{text}"
    sections = [
        Section(
            "Result",
            text,
            columns=columns,
            rows=rows,
            figures=[look.picture("grid", figure, caption, wide=True)],
            parts=[Section("Notes", columns=["", "note"], rows=[*enumerate(summary["notes"], 1)])],
        ),
        Section(
            "Points",
            "Each point has a report of its own.",
            columns=[look.said(parameter), "report"],
            rows=[[f"{p['value']:g}", f"{p['folder']}/report.html"] for p in points],
        ),
    ]
    records = [r for r in result.points[0].history if r.get("fold", 1) == 1]
    if records:
        curves = look.picture("history", history(records, label=look.label),
                              "Learning curves of the network.", wide=True)  # fmt: skip
        sections.append(Section("Training", figures=[curves]))
    record = [[f"version of {name}", version] for name, version in summary["versions"].items()]
    record += [["seed", str(summary["seed"])], ["git commit", summary["git"]]]
    sections.append(Section("Record", "All numbers are in result.json.", columns=["what", ""],
                            rows=record))  # fmt: skip
    return sections
