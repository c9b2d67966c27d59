"""The observable: how well it separates, how it is distributed, how soft bins differ from hard."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from difana._rounding import shown
from difana.analysis.input_yields import histogram_separation
from difana.data import is_signal
from difana.metrics import roc_auc
from difana.plot._pages.look import Look
from difana.plot._pages.yields import axis
from difana.plot.report import Picture, Section
from difana.plot.roc import roc
from difana.plot.scores import scores
from difana.plot.soft_hard import soft_hard

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult, ObservedSample


def observable_section(result: AnalysisResult, look: Look) -> Section:
    """Return ROC curves, separation, distributions, soft against hard yields, by trained region."""
    text = (
        "The output of the network on the test events. An observable that is trained for a limit "
        "with nuisance parameters may separate less than that of cross-entropy: it gives up what "
        "the systematic uncertainties would spoil."
    )
    parts = [_region(result, name, look) for name in result.summary["regions"]]
    if len(parts) == 1:
        return dataclasses.replace(parts[0], heading="Observable", text=text)
    return Section("Observable", text.replace("the network", "the networks"), parts=parts)


def _region(result: AnalysisResult, region: str, look: Look) -> Section:
    """Return the observable of one region."""
    rows: list[list[Any]] = []
    seen = {label: by_region[region] for label, by_region in result.scores.items()}
    events = {label: _events(samples, look.pois) for label, samples in seen.items()}
    for label, (x, weights, labels) in events.items():
        area = float(roc_auc(x, labels, weights))
        rows.append([label, shown(area, 4), shown(histogram_separation(x, weights, labels), 3)])
    rows += [
        [f"input {look.said(own.name)}", "", shown(own.separation, 3)]
        for own in sorted(
            result.inputs.get(region, ()), key=lambda own: -np.nan_to_num(own.separation)
        )
    ]
    before = "" if len(result.summary["regions"]) == 1 else f"{region}_"
    return Section(
        look.heading(region),
        columns=["observable", "area under the ROC curve", "separation <S²>"],
        rows=rows,
        figures=[
            *_roc(events, look, before),
            *_scores(seen, look, before),
            _soft(result, region, look, before),
        ],
    )


Events = tuple[np.ndarray, np.ndarray, np.ndarray]


def _events(samples: Sequence[ObservedSample], pois: Sequence[str]) -> Events:
    """Return observable, weights and labels of all nominal events."""
    x = np.concatenate([sample.nominal.x for sample in samples])
    weights = np.concatenate([sample.nominal.weights for sample in samples])
    sizes = [len(sample.nominal.x) for sample in samples]
    return x, weights, np.repeat([int(is_signal(sample, pois)) for sample in samples], sizes)


def _roc(events: dict[str, Events], look: Look, before: str) -> list[Picture]:
    first = next(iter(events.values()))
    curves = {  # of the same events
        label: x
        for label, (x, _, labels) in events.items()
        if labels.shape == first[2].shape and (labels == first[2]).all()
    }
    if not (first[2].any() and not first[2].all()):
        return []
    figure = roc(curves, first[2], first[1], log=True, title=look.title(), label=look.label)
    caption = "Background rejection against signal efficiency, and the areas under the ROC curves."
    return [look.picture(f"{before}roc", figure, caption)]


def _scores(seen: Mapping[str, Sequence[ObservedSample]], look: Look, before: str) -> list[Picture]:
    pictures = []
    for label, samples in seen.items():
        figure = scores(
            {look.called(sample.name): sample.nominal.x for sample in samples},
            {look.called(sample.name): sample.nominal.weights for sample in samples},
            title=look.title(f"{label}, test events"),
            label=look.label,
            xlabel="network output",
            log=True,
        )
        caption = f"Normalised distributions of the output of the network ({label})."
        pictures.append(look.picture(f"{before}scores_{label}", figure, caption))
    return pictures


def _soft(result: AnalysisResult, name: str, look: Look, before: str) -> Picture:
    region = next(r for r in result.regions if r.name == name)
    channel = next(own for own in result.channels if own.name == name)
    hard = {look.called(t.name): np.asarray(t.values) for t in channel.templates}
    soft = {look.called(sample): y for sample, y in result.soft[name].items()}
    edges, xlabel = axis(region, result, look)
    title = look.title(f"{look.called(name)}, kernel width {result.bandwidths[name]:.3g}")
    figure = soft_hard(edges, soft, hard, title=title, label=look.label, xlabel=xlabel, log=True)
    caption = "What the training saw (soft bins) against what the analysis counts (hard bins)."
    return look.picture(f"{before}soft_hard", figure, caption)
