"""Candidates for the observable of an analysis: their bins and their marks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana._typing import Network
from difana.analysis.best_bins import best_bins
from difana.analysis.number_of_bins import BinCurve, number_of_bins
from difana.analysis.options import TrainingOptions
from difana.analysis.pooled import pooled, resampled
from difana.analysis.question import Question, log_objective
from difana.analysis.templates import ObservedSample, hard_channel, observe
from difana.analysis.trees import BoostedTrees, observe_trees
from difana.analysis.unrolled import Unrolled
from difana.data import Sample

CROSS_ENTROPY = "cross-entropy, best bins"
SCORE = "efficient score, best bins"
DESCENT = "trained on the objective"
SLICED = "efficient score in slices, best bins"
GIVEN = "given network and edges"
TRUST = (SCORE, GIVEN, CROSS_ENTROPY, DESCENT, SLICED)
_REPLICAS = 20
FILES = {
    CROSS_ENTROPY: "weights_baseline.eqx",
    GIVEN: "weights_baseline.eqx",
    SCORE: "weights_score.eqx",
    DESCENT: "weights_descent.eqx",
    SLICED: "weights_sliced.eqx",
}


class Candidate(eqx.Module):
    """An observable with bins that might be the one of the analysis.

    Attributes:
        name: What it is (static).
        net: The network; its first output is binned.
        edges: Bin edges.
        metric: The objective on held-out events in hard bins, penalties included (static).
        error: Statistical error of its difference to that of the first candidate in the order of
            trust (`chosen_of`), from the number of held-out events (static).
    """

    net: Network
    edges: Float[np.ndarray, " edges"]
    name: str = eqx.field(static=True)
    metric: float = eqx.field(static=True)
    error: float = eqx.field(static=True, default=0.0)

    @property
    def file(self) -> str:
        """Name of the file of its weights in a result folder."""
        return FILES[self.name]


def breaks_of(net: Network) -> tuple[float, ...]:
    """Return where the observable begins anew; nowhere if it is of one dimension."""
    return tuple(map(float, net.breaks)) if isinstance(net, Unrolled) else ()


class Desk:
    """Where candidates get their bins and their marks."""

    def __init__(
        self,
        train: Sequence[Sample],
        validation: Sequence[Sample],
        question: Question,
        training: TrainingOptions,
        *,
        channel: str,
        staterror: bool,
    ) -> None:
        self.samples, self.question, self.training = (train, validation), question, training
        self.held_out: dict[str, Sequence[ObservedSample]] = {}
        self.named: dict[str, Any] = {"name": channel, "staterror": staterror}
        self.shared: dict[str, Any] = {
            "poi": question.poi,
            "others": question.others,
            "staterror": staterror,
            "minimum_events": training.minimum_events,
        }
        self.score = log_objective(
            training, others=question.others, parameters=question.parameters, poi=question.poi
        )

    def seen(self, net: Network) -> list[tuple[ObservedSample, ...]]:
        """Return training and validation samples as a network sees them."""
        return [observe(net, part) for part in self.samples]

    def curve(
        self, seen: Sequence[Sequence[ObservedSample]], breaks: Sequence[float] = ()
    ) -> BinCurve:
        """Return the number of bins that an observable is worth."""
        return number_of_bins(seen[0], seen[1], breaks=breaks, **self.shared)

    def edges(
        self, seen: Sequence[Sequence[ObservedSample]], bins: int, breaks: Sequence[float] = ()
    ) -> Float[np.ndarray, " edges"]:
        """Return the best bins of an observable."""
        return best_bins(
            seen,
            self.score,
            bins=bins,
            budget=self.training.search,
            name=self.named["name"],
            breaks=breaks,
            **self.shared,
        ).edges

    def with_bins(self, trees: BoostedTrees, bins: int) -> BoostedTrees:
        """Return trees with their best bins, or with the reason why they have none."""
        try:
            edges = self.edges([observe_trees(trees, part) for part in self.samples], bins)
        except InputError as error:  # too few distinct values
            return dataclasses.replace(trees, status=str(error))
        return dataclasses.replace(trees, edges=tuple(map(float, edges)))

    def candidate(
        self,
        name: str,
        net: Network,
        edges: Float[np.ndarray, " edges"],
        seen: Sequence[Sequence[ObservedSample]],
    ) -> Candidate:
        """Return a candidate, measured on held-out events."""
        edges = np.asarray(edges, seen[0][0].nominal.x.dtype)
        own, both = (hard_channel(part, edges, **self.named) for part in (seen[1], pooled(seen)))
        # a bin is poor if both splits together are: the bins were searched on both
        poor, poorer = (float(self.question.poverty(part)) for part in (both, own))
        metric = float(self.score(own)) + self.question.penalty * (poor - poorer)
        self.held_out[name] = seen[1]
        return Candidate(net, edges, name, metric if np.isfinite(metric) else float("inf"))

    def with_errors(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the candidates with the errors of their differences, by bootstrap."""
        if len(candidates) < 2:
            return tuple(candidates)
        drawn = {own.name: self._replicas(own) for own in candidates}
        first = drawn[trusted(candidates).name]
        found = []
        for own in candidates:
            good = np.isfinite(drawn[own.name]) & np.isfinite(first)
            gaps = drawn[own.name][good] - first[good]
            error = float(np.std(gaps)) if len(gaps) > 1 else float("inf")
            found.append(dataclasses.replace(own, error=error))
        return tuple(found)

    def _replicas(self, own: Candidate) -> np.ndarray:
        rng = np.random.default_rng(0)  # all candidates see the same events
        values = []
        for _ in range(_REPLICAS):
            again = resampled(self.held_out[own.name], rng)
            channel = hard_channel(again, np.asarray(own.edges), **self.named)
            values.append(float(self.score(channel)))
        return np.array(values)


def trusted(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate that is trusted without a look at held-out events."""
    return min(candidates, key=lambda own: TRUST.index(own.name))


def chosen_of(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate that is best on held-out events, by more than its error.

    Held-out events are few. The efficient score (or what the training starts from) is taken unless
    another candidate is better by more than the statistical error of the difference.

    Example:
        >>> edges = np.zeros(2)
        >>> score = Candidate(None, edges, SCORE, -0.60)
        >>> chosen_of([score, Candidate(None, edges, DESCENT, -0.61, 0.02)]).name
        'efficient score, best bins'
    """
    first = trusted(candidates)
    if not np.isfinite(first.metric):
        return min(candidates, key=lambda own: own.metric)
    better = [own for own in candidates if own.metric < first.metric - own.error]
    return min((first, *better), key=lambda own: own.metric)
