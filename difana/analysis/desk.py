"""Where candidates get their bins and their marks: in all trained regions together."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from difana._errors import InputError, blame
from difana._typing import Network
from difana.analysis.best_bins import best_bins
from difana.analysis.candidates import Candidate, Observable, trusted
from difana.analysis.number_of_bins import BinCurve, number_of_bins
from difana.analysis.options import TrainingOptions
from difana.analysis.pooled import pooled, resampled
from difana.analysis.question import Question, judged
from difana.analysis.region_events import RegionEvents
from difana.analysis.templates import ObservedSample, hard_channel, observe
from difana.analysis.trees import BoostedTrees, observe_trees
from difana.likelihood import Channel

_SWEEPS = 2  # over the regions: bins of one depend on those of the others through the nuisances
_REPLICAS = 20

Splits = Sequence[Sequence[ObservedSample]]
"""Training and validation samples of a region, as an observable sees them."""

Edges = Float[np.ndarray, " edges"]
Breaks = Sequence[Sequence[float]]
"""Where the observable of each region begins anew (`Unrolled`)."""


class Desk:
    """Searches bins on training and held-out events, and measures candidates on the latter.

    Args:
        regions: The events of the trained regions.
        question: What is minimised.
        training: Events wanted in each bin, binnings that are scored.
        staterror: Include the statistical uncertainty of the simulation.
    """

    def __init__(
        self,
        regions: Sequence[RegionEvents],
        question: Question,
        training: TrainingOptions,
        *,
        staterror: bool,
    ) -> None:
        """Keep the events."""
        self.regions, self.question, self.training = tuple(regions), question, training
        self.staterror = staterror
        self.held_out: dict[str, list[Sequence[ObservedSample]]] = {}

    def seen(self, nets: Sequence[Network]) -> list[Splits]:
        """Return training and validation samples of all regions as networks see them."""
        rows = zip(self.regions, nets, strict=True)
        return [[observe(net, part) for part in (own.train, own.validation)] for own, net in rows]

    def curves(
        self, seen: Sequence[Splits], bins: Sequence[int | str], breaks: Breaks
    ) -> list[BinCurve | None]:
        """Return the numbers of bins that the observables are worth, where that is asked."""
        found: list[BinCurve | None] = []
        for r, (own, asked, places) in enumerate(zip(seen, bins, breaks, strict=True)):
            curve = None
            if asked == "auto":
                with self._blaming(r):
                    curve = number_of_bins(
                        own[0],
                        own[1],
                        others=self.question.others,
                        poi=self.question.poi,
                        staterror=self.staterror,
                        minimum_events=self.training.minimum_events,
                        breaks=places,
                    )
            found.append(curve)
        return found

    def edges(
        self, seen: Sequence[Splits], bins: Sequence[int], breaks: Breaks | None = None
    ) -> list[Edges]:
        """Return the best bins of the observables of all regions.

        One region after the other, the others as they are then: twice, if there are several.
        """
        channels: dict[int, Channel] = {}
        found: dict[int, Edges] = {}
        places = [()] * len(seen) if breaks is None else breaks
        for _ in range(_SWEEPS if len(seen) > 1 else 1):
            for r, (own, number) in enumerate(zip(seen, bins, strict=True)):
                with self._blaming(r):
                    found[r] = self._searched(r, own, number, channels, places[r])
                channels[r] = self.hard(r, pooled(own), found[r])
        return [found[r] for r in range(len(seen))]

    def _blaming(self, place: int) -> contextlib.AbstractContextManager[None]:
        """Name a region, where there are several, in errors about its observable."""
        if len(self.regions) == 1:
            return contextlib.nullcontext()
        return blame(f"region '{self.regions[place].name}'")

    def _searched(
        self,
        place: int,
        seen: Splits,
        bins: int,
        channels: Mapping[int, Channel],
        breaks: Sequence[float],
    ) -> Edges:
        """Return the best bins of one region, given channels of others."""

        def score(own: Channel) -> float:
            together = {**channels, place: own}
            return float(judged(self.question, tuple(together[r] for r in sorted(together))))

        return best_bins(
            seen,
            score,
            bins=bins,
            budget=self.training.search,
            name=self.regions[place].name,
            others=(*(c for r, c in channels.items() if r != place), *self.question.others),
            poi=self.question.poi,
            staterror=self.staterror,
            minimum_events=self.training.minimum_events,
            breaks=breaks,
        ).edges

    def with_bins(
        self, trees: Sequence[BoostedTrees], bins: Sequence[int]
    ) -> tuple[BoostedTrees, ...]:
        """Return trees with their best bins, or with the reason why they have none."""
        try:
            seen = [
                [observe_trees(one, part) for part in (own.train, own.validation)]
                for one, own in zip(trees, self.regions, strict=True)
            ]
            edges = self.edges(seen, bins)
        except InputError as error:  # too few distinct values
            return tuple(dataclasses.replace(one, status=str(error)) for one in trees)
        return tuple(
            dataclasses.replace(one, edges=tuple(map(float, own)))
            for one, own in zip(trees, edges, strict=True)
        )

    def candidate(
        self, name: str, nets: Sequence[Network], edges: Sequence[Edges], seen: Sequence[Splits]
    ) -> Candidate:
        """Return a candidate, measured on held-out events."""
        cuts = [
            np.asarray(e, own[0][0].nominal.x.dtype) for e, own in zip(edges, seen, strict=True)
        ]
        rows = list(zip(seen, cuts, strict=True))
        own = [self.hard(r, part[1], e) for r, (part, e) in enumerate(rows)]
        both = [self.hard(r, pooled(part), e) for r, (part, e) in enumerate(rows)]
        # a bin is poor if both splits together are: the bins were searched on both
        poor, poorer = (float(self.question.poverty(part)) for part in (both, own))
        metric = float(judged(self.question, tuple(own)))
        metric += self.question.penalty * (poor - poorer)
        self.held_out[name] = [part[1] for part in seen]
        observables = tuple(
            Observable(net, e, region.name)
            for net, e, region in zip(nets, cuts, self.regions, strict=True)
        )
        return Candidate(observables, name, metric if np.isfinite(metric) else float("inf"))

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
            channels = [
                self.hard(r, resampled(seen, rng), np.asarray(one.edges))
                for r, (seen, one) in enumerate(
                    zip(self.held_out[own.name], own.observables, strict=True)
                )
            ]
            values.append(float(judged(self.question, tuple(channels))))
        return np.array(values)

    def hard(self, place: int, samples: Sequence[ObservedSample], edges: Edges) -> Channel:
        """Return a region in hard bins."""
        name = self.regions[place].name
        return hard_channel(samples, edges, name=name, staterror=self.staterror)
