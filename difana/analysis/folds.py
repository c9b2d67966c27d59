"""Cross-fitting: every event in the final templates, through networks that have not seen it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana._status import joined as joined_status
from difana.analysis.config import AnalysisConfig
from difana.analysis.descent import median_width
from difana.analysis.efficient_score import unbinned_uncertainty
from difana.analysis.evaluate import (
    BASELINE,
    Evaluated,
    finished,
    observed_scores,
    setting_of,
    soft_yields,
)
from difana.analysis.load import Loaded
from difana.analysis.observables import (
    DIFANA,
    Expectation,
    Setting,
    baseline_edges,
    expectation,
)
from difana.analysis.optimise import Optimised
from difana.analysis.options import TrainingOptions
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
    def bins(self) -> int:
        """Number of bins."""
        return self.folds[0].bins

    @property
    def chosen(self) -> str:
        """Name of the candidate that is reported."""
        return self.folds[0].chosen

    @property
    def bandwidth(self) -> float:
        """Kernel width at the end of a descent, in numbers of bins of median width."""
        own = self.folds[0]
        return own.bandwidth / median_width(own.edges)

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        """Records of all stages of all folds, each with the number of its fold, from 1."""
        return tuple(
            {**record, "fold": f} for f, own in enumerate(self.folds, 1) for record in own.history
        )


def fold_names(folds: int) -> tuple[str, ...]:
    """Return the names of the folders of the folds.

    Example:
        >>> fold_names(2)
        ('fold_1', 'fold_2')
    """
    return tuple(f"fold_{f + 1}" for f in range(folds))


def train_folds(
    loaded: Loaded,
    training: TrainingOptions,
    fit: Callable[[Loaded, int, TrainingOptions], Optimised],
) -> CrossFitted:
    """Train the networks of all folds.

    With ``bins="auto"`` the number of bins is the one of the first fold. The candidate is the one
    whose objective on held-out events, geometrically averaged over the folds, is the lowest.

    Args:
        loaded: Inputs with folds.
        training: What every fold is trained with.
        fit: Trains one: inputs of the fold, its number from 0, options.
    """
    found = [fit(loaded.folds[0], 0, training)]
    training = dataclasses.replace(training, bins=found[0].bins)
    found += [fit(own, f, training) for f, own in enumerate(loaded.folds[1:], 1)]
    names = [one.name for one in found[0].candidates]
    metrics = [{one.name: one.metric for one in own.candidates} for own in found]
    chosen = min(names, key=lambda name: math.fsum(own[name] for own in metrics))
    return cross_fitted(tuple(_choosing(own, chosen) for own in found))


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
    wider = median_width(one.edges) / median_width(own.edges)
    return dataclasses.replace(
        own, net=one.net, edges=one.edges, chosen=name, bandwidth=own.bandwidth * wider
    )


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
    setting = setting_of(config, loaded, bins=found.bins, unbinned=_unbinned(folds))
    plain = [observe(own.baseline_net, part.test) for part, own in folds]
    rows = list(_baselines(folds, plain, on=setting))
    scores: dict[str, list[tuple[ObservedSample, ...]]] = {}
    for i, one in enumerate(found.folds[0].candidates):
        parts = [(own.candidates[i], part) for part, own in folds]
        scores[one.name] = [observe(mine.net, part.test) for mine, part in parts]
        if one.name != found.chosen:
            cuts = [mine.edges for mine, _ in parts]
            rows.append(_row(one.name, scores[one.name], cuts, on=setting))
    rows += _of_trees(folds, on=setting)
    own, cuts = scores[found.chosen], [fold.edges for fold in found.folds]
    best = _row(DIFANA, own, cuts, on=setting, observable=found.chosen)
    text = (
        f"cross-fitting in {len(folds)} folds: every simulated event is in the templates, through "
        "the network and the bins of its fold, which have not seen it"
    )
    best = dataclasses.replace(best, notes=(text, *best.notes))

    def soft(edges: np.ndarray) -> dict[str, np.ndarray]:
        """Return soft yields, each fold in its own bins; merged ones are left out."""
        left = np.round(edges).astype(int)
        each = [
            soft_yields(seen, np.asarray(fold.edges)[left], float(fold.bandwidth))
            for seen, fold in zip(own, found.folds, strict=True)
        ]
        return {name: np.sum([one[name] for one in each], axis=0) for name in each[0]}

    observed = None
    if loaded.observed is not None:
        seen = [
            numbered(observed_scores(fold.net, part.observed), fold.edges)
            for part, fold in folds
            if part.observed is not None
        ]
        observed = np.concatenate(seen)
    return finished(
        config,
        loaded,
        setting,
        rows=(*rows, best),
        scores={BASELINE: joined(plain), DIFANA: _together(own, cuts)},
        observed=observed,
        soft=soft,
    )


Folds = Sequence[tuple[Loaded, Optimised]]
Scores = Sequence[Sequence[ObservedSample]]


def _together(
    scores: Scores, edges: Sequence[Float[np.ndarray, " edges"]]
) -> tuple[ObservedSample, ...]:
    """Return the events of all folds, each in units of the bins of its fold."""

    def moved(sample: ObservedSample, cuts: np.ndarray) -> ObservedSample:
        def own(values: Values) -> Values:
            return Values(numbered(values.x, cuts), values.weights)

        shapes = tuple((name, own(up), own(down)) for name, up, down in sample.shapes)
        return dataclasses.replace(sample, nominal=own(sample.nominal), shapes=shapes)

    return joined(
        [[moved(s, cuts) for s in samples] for samples, cuts in zip(scores, edges, strict=True)]
    )


def _row(
    name: str,
    scores: Scores,
    edges: Sequence[Float[np.ndarray, " edges"]],
    *,
    on: Setting,
    observable: str = "",
) -> Expectation:
    """Return what is expected of an observable; its edges are numbers of bins."""
    numbers = np.arange(len(edges[0]), dtype=float)
    return expectation(name, _together(scores, edges), numbers, on=on, observable=observable)


def _baselines(folds: Folds, plain: Scores, *, on: Setting) -> list[Expectation]:
    """Return what is expected of the observables of cross-entropy, bins chosen in each fold."""
    choices = []
    for part, own in folds:
        seen = observe(own.baseline_net, nominal_samples(part.train))
        choices.append(baseline_edges(seen, poi=on.poi, bins=on.bins))
    found = []
    for name in choices[0]:
        try:
            edges = [choose[name]() for choose in choices]
        except InputError as error:  # a network that learned nothing has too few distinct scores
            found.append(Expectation(name, (), status=str(error)))
            continue
        found.append(_row(name, plain, edges, on=on))
    return found


def _of_trees(folds: Folds, *, on: Setting) -> list[Expectation]:
    """Return what is expected of boosted trees, where they were asked for."""
    pairs = [(own.trees, part.test) for part, own in folds if own.trees is not None]
    if not pairs:
        return []
    wrong = [trees.status for trees, _ in pairs if not trees.edges]
    if wrong:
        return [Expectation(TREES, (), status=wrong[0])]
    seen = [observe_trees(trees, test) for trees, test in pairs]
    return [_row(TREES, seen, [np.asarray(trees.edges) for trees, _ in pairs], on=on)]


def _unbinned(folds: Folds) -> float:
    """Return the uncertainty without binning: the mean information of the scores of all folds."""
    found = []
    for part, own in folds:
        if own.score_net is None:
            return float("nan")
        full = [
            _scaled(test, float(np.sum(np.asarray(train.nominal.weights, np.float64))))
            for test, train in zip(part.test, part.train, strict=True)
        ]
        found.append(unbinned_uncertainty(own.score_net, full, part.channels) ** -2)
    return float(np.mean(found) ** -0.5)


def _scaled(sample: Sample, total: float) -> Sample:
    """Return the sample with nominal events that stand for the full yield."""
    weights = sample.nominal.weights
    factor = total / float(np.sum(np.asarray(weights, np.float64)))
    return dataclasses.replace(sample, nominal=sample.nominal.with_weights(weights * factor))
