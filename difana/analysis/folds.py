"""Cross-fitting: every event in the final templates, through networks that have not seen it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana._status import joined as joined_status
from difana._typing import Network
from difana.analysis.candidates import Candidate, chosen_of
from difana.analysis.config import AnalysisConfig
from difana.analysis.descent import median_width
from difana.analysis.efficient_score import unbinned_uncertainty
from difana.analysis.evaluate import (
    BASELINE,
    Evaluated,
    edges_of,
    finished,
    observed_scores,
    setting_of,
    soft_yields,
)
from difana.analysis.load import Loaded
from difana.analysis.observables import (
    DIFANA,
    Expectation,
    Scores,
    Setting,
    View,
    baseline_edges,
    expectation,
)
from difana.analysis.optimised import Optimised
from difana.analysis.pooled import joined
from difana.analysis.templates import ObservedSample, Values, bin_of, observe
from difana.analysis.trees import TREES, observe_trees
from difana.data import Sample, nominal_samples
from difana.train import AbstractTraining

_BELOW_ONE = 1 - 2.0**-30  # events of a bin stay below its upper edge


class CrossFitted(AbstractTraining):
    """What the recipe found in each fold.

    Attributes:
        folds: The networks and edges of each fold, all with the same number of bins and the same
            kind of candidate.
        status: How the trainings ended, bits of `difana.train.TrainStatus`.
        diagnosis: What went wrong in them, and the remedy; empty where nothing did.
    """

    folds: tuple[Optimised, ...]
    status: int = eqx.field(static=True)
    diagnosis: str = eqx.field(static=True)

    @property
    def chosen(self) -> str:
        """Name of the candidate that is reported."""
        return self.folds[0].chosen

    @property
    def bandwidths(self) -> tuple[float, ...]:
        """Kernel widths at the end of a descent, in numbers of bins of median width."""
        own = self.folds[0]
        rows = zip(own.bandwidths, own.observables, strict=True)
        return tuple(width / median_width(one.edges) for width, one in rows)

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        """Records of all stages of all folds, each with the number of its fold, from 1."""
        return tuple(
            {**record, "fold": f} for f, own in enumerate(self.folds, 1) for record in own.history
        )


Bins = Sequence[int | str]


def train_folds(
    loaded: Loaded, bins: Bins, fit: Callable[[Loaded, int, Bins], Optimised]
) -> CrossFitted:
    """Train the networks of all folds.

    With ``"auto"`` the number of bins is the one of the first fold. The candidate is chosen
    by the objective on held-out events, geometrically averaged over the folds (`chosen_of`).

    Args:
        loaded: Inputs with folds.
        bins: Numbers of bins of the trained regions, or ``"auto"``.
        fit: Trains one: inputs of the fold, its number from 0, numbers of bins.
    """
    found = [fit(loaded.folds[0], 0, bins)]
    bins = [own.bins for own in found[0].observables]
    found += [fit(own, f, bins) for f, own in enumerate(loaded.folds[1:], 1)]
    together = [_mean(same) for same in zip(*(own.candidates for own in found), strict=True)]
    chosen = chosen_of(together).name
    return cross_fitted(tuple(_choosing(own, chosen) for own in found))


def _mean(same: Sequence[Candidate]) -> Candidate:
    """Return the candidate of the first fold with the marks of all: held-out events differ."""
    metric = math.fsum(own.metric for own in same) / len(same)
    return dataclasses.replace(
        same[0], metric=metric, error=math.hypot(*(own.error for own in same)) / len(same)
    )


def cross_fitted(folds: tuple[Optimised, ...]) -> CrossFitted:
    """Return the trainings of all folds as one.

    Args:
        folds: Trainings with one number of bins and one candidate chosen.
    """
    said = [f"Fold {f}: {own.diagnosis}" for f, own in enumerate(folds, 1) if own.diagnosis]
    return CrossFitted(folds, joined_status([own.status for own in folds]), " ".join(said))


def _choosing(own: Optimised, name: str) -> Optimised:
    """Return what was found with another of the candidates chosen."""
    one = next(candidate for candidate in own.candidates if candidate.name == name)
    rows = zip(one.observables, own.observables, own.bandwidths, strict=True)
    widths = tuple(
        width * (median_width(new.edges) / median_width(old.edges)) for new, old, width in rows
    )
    return dataclasses.replace(own, observables=one.observables, chosen=name, bandwidths=widths)


def numbered(
    x: Float[np.ndarray, " events"], edges: Float[np.ndarray, " edges"]
) -> Float[np.ndarray, " events"]:
    """Return the observable in units of its bins: the integer part is the number of the bin.

    So the observables of networks with different edges share the edges 0, 1, 2, ...; events outside
    are in the first and last bin.

    Example:
        >>> numbered(np.array([-1.0, 0.5, 3.0, 9.0]), np.array([0.0, 1.0, 5.0])).round(2).tolist()
        [0.0, 0.5, 1.5, 2.0]
        >>> float(numbered(np.array([9.0]), np.array([0.0, 1.0, 5.0]))[0]) < 2
        True
    """
    edges = np.asarray(edges, x.dtype)
    inside = bin_of(x, edges)
    low, high = (np.asarray(edges[inside + side], np.float64) for side in (0, 1))
    return inside + np.clip((x - low) / np.maximum(high - low, 1e-300), 0.0, _BELOW_ONE)


def evaluate_folds(config: AnalysisConfig, loaded: Loaded, found: CrossFitted) -> Evaluated:
    """Evaluate all observables in hard bins of all events, each through networks of its fold.

    The template of a bin is the sum over the folds of their events in their bin of this number;
    variations and squared weights add likewise. Observed events go to the network of the fold that
    their hash says.

    Args:
        config: The configuration.
        loaded: Its events, in folds.
        found: What was trained.

    Raises:
        ModelError: If the trained observable cannot be evaluated.
    """
    folds = tuple(zip(loaded.folds, found.folds, strict=True))
    names = [own.name for own in loaded.regions]
    unbinned = _unbinned(folds, config.general.pois)
    setting = setting_of(config, loaded, found.folds[0].observables, unbinned=unbinned)
    plain = [_observed_by(own.baselines, part) for part, own in folds]
    rows = list(_baselines(folds, plain, on=setting))
    scores: dict[str, list[Scores]] = {}
    for i, one in enumerate(found.folds[0].candidates):
        parts = [(own.candidates[i].observables, part) for part, own in folds]
        scores[one.name] = [_observed_by([o.net for o in mine], part) for mine, part in parts]
        if one.name != found.chosen:
            cuts = [edges_of(mine) for mine, _ in parts]
            rows.append(_row(one.name, scores[one.name], cuts, on=setting))
    rows += _of_trees(folds, on=setting)
    own, cuts = scores[found.chosen], [edges_of(fold.observables) for fold in found.folds]
    best = _row(DIFANA, own, cuts, on=setting, observable=found.chosen)
    text = (
        f"cross-fitting in {len(folds)} folds: every simulated event is in the templates, through "
        "the network and the bins of its fold, which have not seen it"
    )
    best = dataclasses.replace(best, notes=(text, *best.notes))
    widths = [dict(zip(names, fold.bandwidths, strict=True)) for fold in found.folds]

    def soft(name: str, edges: np.ndarray) -> dict[str, np.ndarray]:
        """Return soft yields, each fold in its own bins; merged ones are left out."""
        left = np.round(edges).astype(int)
        each = [
            soft_yields(seen[name], mine[name][left], float(width[name]))
            for seen, mine, width in zip(own, cuts, widths, strict=True)
        ]
        return {sample: np.sum([one[sample] for one in each], axis=0) for sample in each[0]}

    observed: dict[str, list[np.ndarray]] = {}
    for part, fold in folds:
        for one, mine in zip(fold.observables, part.regions, strict=True):
            if mine.observed is not None:
                x = numbered(observed_scores(one.net, mine.observed), one.edges)
                observed.setdefault(mine.name, []).append(x)
    return finished(
        config,
        loaded,
        setting,
        rows=(*rows, best),
        scores={
            BASELINE: {name: joined([seen[name] for seen in plain]) for name in names},
            DIFANA: {view.region: view.samples for view in _together(own, cuts)},
        },
        observed={name: np.concatenate(parts) for name, parts in observed.items()},
        soft=soft,
    )


Folds = Sequence[tuple[Loaded, Optimised]]
Cuts = Sequence[Mapping[str, Float[np.ndarray, " edges"]]]


def _observed_by(nets: Sequence[Network], part: Loaded) -> Scores:
    """Return the test samples of a fold as its networks see them, by region."""
    rows = zip(nets, part.regions, strict=True)
    return {own.name: observe(net, own.test) for net, own in rows}


def _together(scores: Sequence[Scores], edges: Cuts) -> list[View]:
    """Return the events of all folds, each in units of the bins of its fold."""

    def moved(sample: ObservedSample, cuts: np.ndarray) -> ObservedSample:
        def own(values: Values) -> Values:
            return Values(numbered(values.x, cuts), values.weights)

        shapes = tuple((name, own(up), own(down)) for name, up, down in sample.shapes)
        return dataclasses.replace(sample, nominal=own(sample.nominal), shapes=shapes)

    found = []
    for name in scores[0]:
        parts = [
            [moved(sample, cuts[name]) for sample in seen[name]]
            for seen, cuts in zip(scores, edges, strict=True)
        ]
        found.append(View(name, joined(parts), np.arange(len(edges[0][name]), dtype=float)))
    return found


def _row(
    name: str, scores: Sequence[Scores], edges: Cuts, *, on: Setting, observable: str = ""
) -> Expectation:
    """Return what is expected of an observable; its edges are numbers of bins."""
    return expectation(name, _together(scores, edges), on=on, observable=observable)


def _baselines(folds: Folds, plain: Sequence[Scores], *, on: Setting) -> list[Expectation]:
    """Return what is expected of the observables of cross-entropy, bins chosen in each fold."""
    choices = []
    for part, own in folds:
        rows = zip(own.baselines, part.regions, strict=True)
        seen = {one.name: observe(net, nominal_samples(one.train)) for net, one in rows}
        choices.append(
            {
                name: baseline_edges(samples, poi=on.poi, bins=on.bins[name])
                for name, samples in seen.items()
            }
        )
    found = []
    for name in next(iter(choices[0].values())):
        try:
            edges = [{r: choose[name]() for r, choose in own.items()} for own in choices]
        except InputError as error:  # a network that learned nothing has too few distinct scores
            found.append(Expectation(name, {}, status=str(error)))
            continue
        found.append(_row(name, plain, edges, on=on))
    return found


def _of_trees(folds: Folds, *, on: Setting) -> list[Expectation]:
    """Return what is expected of boosted trees, where they were asked for."""
    if not folds[0][1].trees:
        return []
    seen: list[Scores] = []
    edges: list[dict[str, np.ndarray]] = []
    for part, own in folds:
        rows = list(zip(own.trees, part.regions, strict=True))
        for trees, _ in rows:
            if not trees.edges:
                return [Expectation(TREES, {}, status=trees.status)]
        seen.append({region.name: observe_trees(trees, region.test) for trees, region in rows})
        edges.append({region.name: np.asarray(trees.edges) for trees, region in rows})
    return [_row(TREES, seen, edges, on=on)]


def _unbinned(folds: Folds, pois: Sequence[str]) -> float:
    """Return the uncertainty without binning: the mean information of the scores of all folds."""
    found = []
    for part, own in folds:
        if not own.scores:
            return float("nan")
        full = [
            [
                _scaled(test, float(np.sum(np.asarray(train.nominal.weights, np.float64))))
                for test, train in zip(region.test, region.train, strict=True)
            ]
            for region in part.regions
        ]
        sigma = unbinned_uncertainty(
            own.scores, full, part.channels, parameters=part.parameters, poi=pois[0]
        )
        found.append(sigma**-2)
    return float(np.mean(found) ** -0.5)


def _scaled(sample: Sample, total: float) -> Sample:
    """Return the sample with nominal events that stand for the full yield."""
    weights = sample.nominal.weights
    factor = total / float(np.sum(np.asarray(weights, np.float64)))
    return dataclasses.replace(sample, nominal=sample.nominal.with_weights(weights * factor))
