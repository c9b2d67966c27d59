"""Every picture of an analysis, and the report that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difana._errors import InputError
from difana.plot.cls_scan import cls_scan
from difana.plot.comparison import comparison
from difana.plot.data_mc import data_mc
from difana.plot.history import history
from difana.plot.report import Section, report
from difana.plot.scores import scores
from difana.plot.soft_hard import soft_hard
from difana.plot.systematics import systematics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from difana.analysis import AnalysisResult
    from difana.analysis.regions import RegionYields

_MOST_SYSTEMATICS = 6
_BIN = "bin of the network's output"


def analysis_report(result: AnalysisResult, out: str | Path | None = None) -> Path:
    """Draw everything about an analysis: PNG files in ``plots`` and a self-contained report.

    Args:
        result: What `difana.analysis.run` returned.
        out: Folder of ``plots/`` and ``report.html``; that of the result by default.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: If the folder does not exist.
    """
    out = Path(result.out if out is None else out)
    if not out.is_dir():
        raise InputError(f"cannot write the report: there is no folder {out}")
    (out / "plots").mkdir(exist_ok=True)
    draw = _Drawer(out / "plots")
    title = f"{result.summary['measurement']}: {result.summary['poi']}"
    sections = [
        _limits(result, draw),
        _scan(result, draw),
        _yields(result, draw),
        _training(result, draw),
        _observable(result, draw),
        _systematics(result, draw),
        _record(result),
    ]
    kept = [section for section in sections if section is not None]
    return report(out / "report.html", title=title, sections=kept)


class _Drawer:
    """Writes figures as PNG files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, figure: Figure) -> Path:
        path = self.folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.png"
        figure.savefig(path, dpi=120)
        return path


def _limits(result: AnalysisResult, draw: _Drawer) -> Section:
    shown = [entry for entry in result.comparison if len(entry.edges) > 2] or result.comparison
    rows = [{"name": entry.name, "value": entry.median} for entry in shown]
    table = []
    for entry in result.comparison:
        own = list(entry.limits) or [None] * 5
        cls = entry.cls[2] if entry.cls else None
        note = "; ".join([*entry.notes] if entry.status == "ok" else [entry.status, *entry.notes])
        table.append(
            [entry.name, max(len(entry.edges) - 1, 0), *own, cls, entry.significance, note]
        )
    poi = result.summary["poi"]
    text = (
        f"Expected 95 % CL upper limits on {poi} (CLs, asymptotic), all in hard bins on the test "
        "split: events that were used neither for training nor to choose bins or network."
    )
    observed = result.summary["limits"]["observed"]
    if observed is not None:
        text += (
            f"\n\nObserved: limit {observed['limit']:.4g}, CLs of {poi} = 1 {observed['cls']:.4g}, "
            f"significance {observed['significance']:.3g} (status: {observed['status']})."
        )
    names = ["-2 sigma", "-1 sigma", "median", "+1 sigma", "+2 sigma", f"CLs({poi} = 1)", "Z", ""]
    return Section(
        "Expected limits",
        text,
        columns=["observable", "bins", *names],
        rows=table,
        figures=[draw("comparison", comparison(rows, highlight=result.trained.name))],
    )


def _scan(result: AnalysisResult, draw: _Drawer) -> Section:
    scan, own = result.statistics.scan, result.statistics.observed
    limit = None if own is None or own.limits.observed is None else float(own.limits.observed)
    figure = cls_scan(scan.mu, scan.observed, scan.expected, limits=(limit, result.trained.median))
    text = "CLs against the signal strength; values to the right of the crossing are excluded."
    return Section("CLs scan", text, figures=[draw("cls_scan", figure)])


def _yields(result: AnalysisResult, draw: _Drawer) -> Section:
    figures, rows = [], []
    partly = any(region.observed for region in result.regions)
    for region in result.regions:
        kind = "data" if region.observed else "background-only Asimov data"
        blinded = partly and not region.observed
        edges, xlabel = _axis(region, result)
        for when in ("prefit", "postfit"):
            stack: Mapping[str, Any] = getattr(region, when)
            figure = data_mc(
                edges,
                stack,
                None if blinded else region.data,
                getattr(region, f"{when}_errors"),
                title=f"{region.name}, {when[:-3]}-fit"
                + (", blinded" if blinded else "" if region.observed else ", Asimov data"),
                xlabel=xlabel,
                signal={f"{name} (mu = 1)": y for name, y in region.signal.items()},
                log=True,
            )
            figures.append(draw(f"{region.name}_{when}", figure))
        for name in region.prefit:
            unit = region.signal.get(name, region.prefit[name])
            rows.append(
                [region.name, name, float(np.sum(unit)), float(np.sum(region.postfit[name]))]
            )
        if not blinded:
            total = float(np.sum(region.data))
            rows.append([region.name, kind, total, total])
    kind = "data" if partly else "background-only Asimov data"
    hidden = "; blinded regions have none" if partly and not result.real_data else ""
    return Section(
        "Yields",
        "Before and after the fit; the band holds all uncertainties with their correlations. "
        f"The points are {kind}{hidden}. Pre-fit signal in the table is at unit strength.",
        columns=["region", "sample", "pre-fit", "post-fit"],
        rows=rows,
        figures=figures,
    )


def _training(result: AnalysisResult, draw: _Drawer) -> Section | None:
    if not result.history:
        return None
    training = result.summary["training"]
    text = f"Status: {training['status'].rstrip('.')}."
    rows = [
        [c.name, c.wanted, c.found, c.where, "yes" if c.met else "no"] for c in result.conditions
    ]
    if rows:
        text += "\n\nThe table holds the conditions on the result, measured on the test split."
    return Section(
        "Training",
        text,
        columns=["condition", "asked", "found", "where", "met"] if rows else (),
        rows=rows,
        figures=[draw("history", history(result.history))],
    )


def _observable(result: AnalysisResult, draw: _Drawer) -> Section:
    figures = []
    for label, samples in result.scores.items():
        values = {sample.name: sample.nominal.x for sample in samples}
        weights = {sample.name: sample.nominal.weights for sample in samples}
        figure = scores(
            values, weights, title=f"{label}, test split", xlabel="network output", log=True
        )
        figures.append(draw(f"scores_{label}", figure))
    region = next(r for r in result.regions if r.name == result.config.trained.name)
    hard = {t.name: np.asarray(t.values) for t in result.channels[0].templates}
    edges, xlabel = _axis(region, result)
    title = f"{region.name}, kernel width {result.bandwidth:.3g}"
    figure = soft_hard(edges, result.soft, hard, title=title, xlabel=xlabel, log=True)
    figures.append(draw("soft_hard", figure))
    text = (
        "Distribution of the network's output, and the yields that the training saw (soft) "
        "against those of the analysis (hard)."
    )
    return Section("Observable", text, figures=figures)


def _systematics(result: AnalysisResult, draw: _Drawer) -> Section | None:
    entries = sorted(_shapes(result), key=lambda entry: -entry[0])
    figures = []
    for _, region, name, label, nominal, hi, lo, error in entries[:_MOST_SYSTEMATICS]:
        edges, xlabel = _axis(region, result)
        title = f"{region.name}, {name}: {label}"
        figure = systematics(edges, nominal, hi, lo, uncertainty=error, title=title, xlabel=xlabel)
        figures.append(draw(f"systematic_{region.name}_{name}_{label}", figure))
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
                    size = np.abs(hi - lo).sum() / max(np.abs(nominal).sum(), 1e-12)
                    region = regions[channel.name]
                    yield size, region, template.name, modifier.name, nominal, hi, lo, error


def _record(result: AnalysisResult) -> Section:
    summary = result.summary
    rows: Sequence[Sequence[Any]] = [
        *([f"version of {name}", version] for name, version in summary["versions"].items()),
        ["seed", summary["seed"]],
        ["git commit", summary["git"]],
        ["configuration", result.config.path.name],
        *([f"note {i}", note] for i, note in enumerate(summary["notes"], 1)),
    ]
    return Section("Record", "All numbers are in result.json.", columns=["what", ""], rows=rows)


def _axis(region: RegionYields, result: AnalysisResult) -> tuple[np.ndarray, str]:
    """Return edges and label; bins of the network are numbered, as their widths differ wildly."""
    if region.name != result.config.trained.name:
        return np.asarray(region.edges), region.xlabel
    return np.arange(len(region.edges)) + 0.5, _BIN
