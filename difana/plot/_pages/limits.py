"""What is said first: limits, their scan, and what other observables would give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from difana.analysis.words import ERROR, comparison_table, headline, observable_text
from difana.plot._pages.look import Look
from difana.plot.cls_scan import cls_scan
from difana.plot.comparison import comparison
from difana.plot.report import Picture, Section
from difana.plot.scan import scan

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult


def result_section(result: AnalysisResult, look: Look) -> Section:
    """Return limits, warnings, and the scan of CLs."""
    pois = ", ".join(map(look.said, look.pois))
    text = f"Upper limits on {pois} at 95 % confidence level (CLs, asymptotic formulae)."
    if any(region.observed for region in result.regions) and not result.real_data:
        text += f" Blinded: {', '.join(map(look.said, result.summary['blinded']))}."
    elif not result.real_data:
        text += " There are no data: everything is expected."
    if not result.ok:
        text = f"These numbers cannot be trusted: {result.message}.\n\n{text}"
    tested, own = result.statistics.scan, result.statistics.observed
    # with data, the nuisances of the expected band were fitted to them, as in the scan
    observed, expected = None, result.trained.median
    if result.statistics.control is not None:
        expected = result.statistics.control.limits[2]
    if own is not None:
        observed, expected = own.limits.observed, own.limits.median
    limits = (None if observed is None else float(observed), float(expected))
    figure = cls_scan(
        tested.mu,
        tested.observed,
        tested.expected,
        limits=limits,
        title=look.title(),
        label=look.label,
        xlabel=f"signal strength {look.mu}",
    )
    caption = "CLs against the signal strength: what lies right of the crossing is excluded."
    return Section(
        "Result",
        text,
        cards=[(name, value, said) for name, value, said in
               headline(result.summary)],
        figures=[look.picture("cls_scan", figure, caption), *_others(result, look)],
        parts=_notes(result),
    )  # fmt: skip


def _others(result: AnalysisResult, look: Look) -> list[Picture]:
    """Return the scans of the other parameters of interest, and the plane of the first two."""
    found = []
    for own in result.statistics.interests[1:]:
        limits = own.limits
        observed = None if limits.observed is None else float(limits.observed)
        figure = cls_scan(
            own.scan.mu,
            own.scan.observed,
            own.scan.expected,
            limits=(observed, float(limits.median)),
            title=look.title(),
            label=look.label,
            xlabel=f"signal strength {look.symbol(own.name)}",
        )
        held = "held" if result.config.general.other_pois == "fixed" else "fitted"
        caption = f"The same for {look.said(own.name)}, the other strengths {held}."
        found.append(look.picture(f"cls_scan_{own.name}", figure, caption))
    if (plane := result.statistics.plane) is not None:
        names = [look.symbol(name) for name in plane.names]
        figure = scan(plane, title=look.title(), label=look.label, xlabel=names[0], ylabel=names[1])
        data = "the data" if result.real_data else f"Asimov data with {look.all_at_one}"
        caption = f"Twice the rise of the likelihood of {data}, all else fitted, and its contours."
        found.append(look.picture("plane", figure, caption))
    return found


def _notes(result: AnalysisResult) -> list[Section]:
    notes = result.summary["notes"]
    if not notes:
        return []
    return [Section("Notes", columns=["", "note"], rows=[*enumerate(notes, 1)])]


def comparison_section(result: AnalysisResult, look: Look) -> Section:
    """Return the expected limits of all observables."""
    columns, rows = comparison_table(result.summary)
    entries = result.summary["comparison"]
    remarks = [
        "; ".join(([] if entry["status"] == "ok" else [entry["status"]]) + list(entry["notes"]))
        for entry in entries
    ]
    if any(remarks):
        columns = [*columns, "remark"]
        rows = [[*row, remark] for row, remark in zip(rows, remarks, strict=True)]
    own = result.trained.name
    several = [entry for entry in entries if max(entry["bins"].values(), default=0) > 1]
    shown = [entry for entry in entries if entry in several or entry["name"] == own]
    drawn = [
        {"name": observable_text(e), "value": float("nan") if e["limit"] is None else e["limit"],
         "error": e.get(ERROR)} for e in shown
    ]  # fmt: skip
    figure = comparison(
        drawn,
        highlight=next(observable_text(e) for e in shown if e["name"] == own),
        title=look.title(),
        label=look.label,
        xlabel=f"expected upper limit on {look.mu} (smaller is better)",
    )
    caption = "Median expected upper limits; the bar of the observable that is used is dark."
    if any(entry.get(ERROR) for entry in shown):
        caption += " The errors are those of the simulated test events."
    which = " of their fold" if result.config.folds else ""
    return Section(
        "Comparison of observables",
        "Each observable in hard bins of the same test events, which were used neither for "
        f"training nor to choose bins or networks{which}; nuisance parameters as before the fit.",
        columns=columns,
        rows=rows,
        figures=[look.picture("comparison", figure, caption, wide=True)],
    )
