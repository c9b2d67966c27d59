"""How the training went, which variations the templates have, and what is on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from difana.plot._pages.look import Look
from difana.plot._pages.yields import axis
from difana.plot.history import history
from difana.plot.number_of_bins import number_of_bins
from difana.plot.report import Section
from difana.plot.systematics import systematics

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult

_MOST_SYSTEMATICS = 6

_SYMBOLS = {
    "CLs": "p-value of signal and background over one minus that of background alone: below 0.05 "
    "a signal strength is excluded at 95 % confidence level",
    "68 %, 95 % band": "central parts of the limits that experiments without signal would find",
    "Z": "median significance, in standard deviations, if the signal is as predicted",
    "Asimov data": "the yields that the model expects, without fluctuations",
    "θ, θ0, Δθ": "nuisance parameter, centre and width of its constraint; a hat: the best fit",
    "<S²>": "separation, half the sum over bins of (s - b)² / (s + b), both normalised: 0 for "
    "equal shapes, 1 for shapes that do not overlap",
    "ROC, AUC": "signal against background efficiency of all cuts, and the area below",
    "soft, hard bins": "bins with smooth borders, which have gradients, and real ones",
}


def training_section(result: AnalysisResult, look: Look) -> Section | None:
    """Return the learning curves, and what became of the conditions on the training."""
    if not result.history:
        return None
    training = result.summary["training"]
    text = f"Status: {training['status']}."
    rows = [
        [c.name, c.wanted, c.found, c.where, "yes" if c.met else "no"] for c in result.conditions
    ]
    if rows:
        text += "\n\nThe table holds the conditions on the result, measured on the test events."
    caption = (
        "Learning curves, one column a stage: the loss of the training batches, and the metric on "
        "held-out events, whose best state is kept (star)."
    )
    records = [record for record in result.history if record.get("fold", 1) == 1]
    if len(records) < len(result.history):
        caption += " Of the first fold."
    figures = []
    regions = result.summary["regions"]
    for name, own in _by_region(records, regions).items():
        said = f"{caption} Of {look.region(name)}." if name and len(regions) > 1 else caption
        stem = "history" if len(regions) == 1 else f"history_{name or 'together'}"
        figures.append(look.picture(stem, history(own, label=look.label), said, wide=True))
    for name, curves in (training.get("bins") or {}).items():
        title = look.title(look.called(name) if len(regions) > 1 else "")
        drawn = number_of_bins(curves, title=title, label=look.label)
        said = (
            "Expected limit against the number of bins, chosen on training events and filled with "
            "held-out ones. Star: the number from which on more do not pay within the errors."
        )
        stem = "number_of_bins" if len(regions) == 1 else f"number_of_bins_{name}"
        figures.append(look.picture(stem, drawn, said))
    return Section(
        "Training",
        text,
        columns=["condition", "asked", "found", "where", "met"] if rows else (),
        rows=rows,
        figures=figures,
    )


def _by_region(
    records: Sequence[Mapping[str, Any]], regions: Sequence[str]
) -> dict[str, list[Mapping[str, Any]]]:
    """Return the records of each of several trained regions, and those of all together."""
    if len(regions) == 1:
        return {regions[0]: list(records)}
    found = {name: [r for r in records if r.get("region") == name] for name in (*regions, "")}
    found[""] = [r for r in records if "region" not in r]
    return {name: own for name, own in found.items() if own}


def cuts_section(result: AnalysisResult, look: Look) -> Section | None:
    """Return the values of the trained cuts."""
    rows = []
    for row in result.summary["cuts"]:
        for region, own in row["value"].items():
            values = own if isinstance(own, list) else [own]
            shown = ", ".join(f"{value:.5g}" for value in values)
            start = f"{row['start']:.5g}"
            rows.append([look.said(region), look.said(row["variable"]), row["side"], start, shown])
    if not rows:
        return None
    text = "Events of a trained region pass all of its cuts; values were trained with the bins."
    if result.config.folds:
        text += " Each fold has its own."
    columns = ["region", "variable", "keeps", "start", "value"]
    return Section("Trained cuts", text, columns=columns, rows=rows)


def systematics_section(result: AnalysisResult, look: Look) -> Section | None:
    """Return the largest variations of shape."""
    entries = sorted(_shapes(result), key=lambda entry: -entry[0])
    figures = []
    for size, region, name, label, nominal, hi, lo, error in entries[:_MOST_SYSTEMATICS]:
        edges, xlabel = axis(region, result, look)
        title = look.title(f"{look.called(region.name)}, {look.called(name)}")
        figure = systematics(
            edges, nominal, hi, lo, uncertainty=error, title=title, label=look.label, xlabel=xlabel
        )
        caption = f"{look.said(label)} moves {look.said(name)} by {100 * size:.2g} % of its yield."
        figures.append(look.picture(f"systematic_{region.name}_{name}_{label}", figure, caption))
    if not figures:
        return None
    left = len(entries) - len(figures)
    text = f"The largest ones; {left} more are not drawn." if left else ""
    return Section("Systematic variations", text, figures=figures)


def _shapes(result: AnalysisResult) -> Iterator[tuple[Any, ...]]:
    """Yield the size and the templates of each variation of shape."""
    regions = {region.name: region for region in result.regions}
    for channel in result.channels:
        for template in channel.templates:
            nominal = np.asarray(template.values)
            kinds: dict[str, Any] = {m.kind: m for m in template.modifiers}
            stat = kinds.get("staterror")
            error = None if stat is None else np.asarray(stat.uncertainty)
            for modifier in template.modifiers:
                if modifier.kind == "histosys":
                    hi, lo = np.asarray(modifier.hi), np.asarray(modifier.lo)
                    size = 0.5 * np.abs(hi - lo).sum() / max(np.abs(nominal).sum(), 1e-12)
                    region = regions[channel.name]
                    yield size, region, template.name, modifier.name, nominal, hi, lo, error


def symbols_section(result: AnalysisResult, look: Look) -> Section:
    """Return what the symbols mean."""
    poi = look.said(look.poi)
    rows = [list(row) for row in _SYMBOLS.items()]
    called = ", ".join(map(look.said, look.pois))
    rows.insert(
        0, [called, "signal strength: the yield of the signal in units of the predicted one"]
    )
    rows.append(
        [
            "impact",
            f"change of the fitted {poi} with a nuisance parameter one standard deviation off",
        ]
    )
    if any(entry.get("retained") is not None for entry in result.summary["comparison"]):
        text = f"information on {poi}, nuisances profiled, that the bins keep of all there is"
        rows.append(["information", text])
    return Section("Symbols", columns=["symbol", "meaning"], rows=rows)


def record_section(result: AnalysisResult) -> Section:
    """Return versions, seed and files."""
    summary = result.summary
    rows: Sequence[Sequence[Any]] = [
        *([f"version of {name}", version] for name, version in summary["versions"].items()),
        ["seed", str(summary["seed"])],
        ["git commit", summary["git"]],
        ["configuration", result.config.path.name],
    ]
    return Section("Record", "All numbers are in result.json.", columns=["what", ""], rows=rows)
