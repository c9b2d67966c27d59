"""The best binning of a given observable, found without gradients."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import ConfigError, InputError
from difana._options import whole_number
from difana.analysis.linear_limit import LinearLimit
from difana.analysis.pooled import pooled
from difana.analysis.templates import ObservedSample, hard_channel
from difana.data import is_signal
from difana.likelihood import Channel, HistoSys, StatError

Cuts = tuple[int, ...]


class BestBins(NamedTuple):
    """What the search found.

    Attributes:
        edges: The edges with the lowest score, ``[bins + 1]``.
        score: Their score.
        starts: Scores of the binnings that the search started from.
        evaluations: Number of binnings that were scored.
        converged: Whether no single move lowers the score; False if the budget ended first.
    """

    edges: Float[np.ndarray, " edges"]
    score: float
    starts: tuple[float, ...]
    evaluations: int
    converged: bool


def best_bins(
    splits: Sequence[Sequence[ObservedSample]],
    score: Callable[[Channel], float | Array],
    *,
    poi: str | Sequence[str] = "mu",
    bins: int,
    name: str = "SR",
    staterror: bool = True,
    others: Sequence[Channel] = (),
    minimum_events: float = 0.0,
    cuts: int = 160,
    budget: int = 300,
    breaks: Sequence[float] = (),
) -> BestBins:
    r"""Search the bin edges that minimise a score in hard bins of all splits together.

    The edges stand on a grid of quantiles of signal and background, dense where the background
    is rare. The grid is filled once and bins are sums of its cells. The search begins with what is
    best to first order, nuisance parameters profiled (`LinearLimit`), where a binning costs
    microseconds: edges are added one at a time, all of them moving to the best place after each.
    From there the score decides: one edge at a time moves by 1, 2, 4, ... cells or into the middle
    of another bin, as long as a move helps.

    Args:
        splits: Training and validation samples with their observable, each split standing for the
            full yield: what :func:`difana.analysis.observe` makes of networks and samples.
        score: What to minimise, compiled, e.g. what `log_objective` returns.
        poi: Parameter of interest; what it multiplies is signal.
        bins: Number of bins.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.
        others: Further channels, for the search to first order.
        minimum_events: Effective simulated background events wanted in a bin, there.
        cuts: Number of cells of the grid, about.
        budget: Binnings to score at most.
        breaks: Where the observable begins anew (`Unrolled`): cells are made for each slice.

    Returns:
        The edges, and how the search went.

    Raises:
        ConfigError: If there are fewer than two bins, or no budget.
        InputError: If the observable has too few distinct values.

    Example:
        >>> from difana.analysis import ObservedSample, Values
        >>> x = np.linspace(0, 1, 101)
        >>> signal = ObservedSample("s", Values(x, x**4), normfactors=("mu",))
        >>> background = ObservedSample("b", Values(x, np.full(101, 1.0)))
        >>> def purest(channel):  # wants signal without background in the last bin
        ...     s, b = (template.values for template in channel.templates)
        ...     return float(-s[-1] / np.sqrt(b[-1] + 1))
        >>> found = best_bins([[signal, background]], purest, bins=2)
        >>> bool(0.7 < found.edges[1] < 0.85), found.converged
        (True, True)
    """
    if whole_number("bins", bins) < 2:
        raise ConfigError(f"{bins} bin(s): a search needs at least two")
    budget, cuts = whole_number("budget", budget), whole_number("cuts", cuts)
    together = pooled(splits)
    grid = cell_edges(together, poi=poi, bins=bins, cuts=cuts, breaks=breaks)
    fine = hard_channel(together, grid, name=name, staterror=staterror)
    judge = _Judge(fine, score, budget)
    linear = LinearLimit(fine, others, poi=poi, minimum=minimum_events)
    starts = [linear.grow(bins)[bins], _even(fine, poi=poi, bins=bins)]
    scores = [judge(start) for start in starts]
    state, converged = _descend(judge, starts[int(np.argmin(scores))], size=linear.size - 1)
    return BestBins(
        grid[[0, *state, linear.size]],
        judge(state),
        tuple(scores),
        judge.evaluations,
        converged,
    )


def cell_edges(
    samples: Sequence[ObservedSample],
    *,
    poi: str | Sequence[str],
    bins: int,
    cuts: int = 160,
    breaks: Sequence[float] = (),
) -> Float[np.ndarray, " edges"]:
    """Return the edges of fine cells: quantiles, and the rarest background events one by one.

    Args:
        samples: Samples with their observable.
        poi: Parameter of interest; what it multiplies is signal.
        bins: Number of bins that are wanted of the cells.
        cuts: Number of cells in each slice, about.
        breaks: Where the observable begins anew (`Unrolled`).

    Raises:
        InputError: If there are fewer distinct values.
    """
    signal = np.concatenate([s.nominal.x for s in samples if is_signal(s, poi)])
    if not len(signal):
        raise InputError(
            "no signal event is left for bins of the observable: a category that gets none cannot "
            "be one (Regions: Categories); join its class with another"
        )
    background = np.sort(np.concatenate([s.nominal.x for s in samples if not is_signal(s, poi)]))
    if not len(background):
        raise InputError(
            "no background event is left for bins of the observable: a category that gets none "
            "cannot be one (Regions: Categories); join its class with another"
        )
    places = [np.asarray(breaks, float)]
    for low, high in itertools.pairwise((-np.inf, *breaks, np.inf)):
        inside = [x[(x >= low) & (x < high)] for x in (signal, background)]
        if all(len(x) for x in inside):
            places += _cells(*inside, cuts=cuts)
    low, high = min(signal.min(), background[0]), max(signal.max(), background[-1])
    found = np.unique(np.concatenate(places).astype(samples[0].nominal.x.dtype))
    inner = found[(found > low) & (found <= high)]
    if len(inner) + 1 < bins:
        raise InputError(
            f"the network's output has too few distinct values for {bins} bins: train it longer "
            "(Training: PretrainSteps) or ask for fewer bins"
        )
    return np.concatenate([[low], inner, [np.nextafter(high, np.array(np.inf, high.dtype))]])


def _cells(signal: np.ndarray, background: np.ndarray, *, cuts: int) -> list[np.ndarray]:
    even = (np.arange(cuts // 3) + 0.5) / max(cuts // 3, 1)
    rare = np.unique(np.geomspace(1, max(len(background) / 3, 1), cuts // 3).astype(int))
    return [np.quantile(signal, even), np.quantile(background, even), background[-rare]]


def merged(channel: Channel, starts: Int[np.ndarray, " bins"]) -> Channel:
    """Return the channel with neighbouring bins added; each new bin begins at one of ``starts``.

    Yields and their variations add, statistical uncertainties add in quadrature.

    Example:
        >>> from difana.likelihood import Template
        >>> fine = Channel((Template(np.array([1.0, 2.0, 4.0]), name="b"),), name="SR")
        >>> merged(fine, np.array([0, 2])).templates[0].values.tolist()
        [3.0, 4.0]
    """
    templates = []
    for template in channel.templates:
        modifiers = []
        for m in template.modifiers:
            if isinstance(m, HistoSys):
                hi, lo = (np.add.reduceat(np.asarray(side), starts) for side in (m.hi, m.lo))
                modifiers.append(HistoSys(hi, lo, m.name))
            elif isinstance(m, StatError):
                squares = np.add.reduceat(np.asarray(m.uncertainty) ** 2, starts)
                modifiers.append(StatError(np.sqrt(squares), m.name))
            else:
                modifiers.append(m)
        values = np.add.reduceat(np.asarray(template.values), starts)
        templates.append(dataclasses.replace(template, values=values, modifiers=tuple(modifiers)))
    return Channel(tuple(templates), parameters=channel.parameters, name=channel.name)


class _Judge:
    """Scores binnings, each once."""

    def __init__(
        self, fine: Channel, score: Callable[[Channel], float | Array], budget: int
    ) -> None:
        self.fine, self.score, self.budget = fine, score, budget
        self.known: dict[Cuts, float] = {}

    @property
    def evaluations(self) -> int:
        return len(self.known)

    def __call__(self, state: Cuts) -> float:
        """Return the score, infinite where it is not finite or the edges do not increase."""
        if state not in self.known:
            bad = any(b <= a for a, b in itertools.pairwise(state))
            value = np.inf
            if not bad:
                value = float(self.score(merged(self.fine, np.array((0, *state)))))
            self.known[state] = value if np.isfinite(value) else np.inf
        return self.known[state]

    @property
    def spent(self) -> bool:
        return self.evaluations >= self.budget


def _even(fine: Channel, *, poi: str | Sequence[str], bins: int) -> Cuts:
    """Return bins of equal signal, as far as the cells allow."""
    signal = sum(np.asarray(t.values, float) for t in fine.templates if is_signal(t, poi))
    share = np.cumsum(np.maximum(signal, 0.0))
    size = len(share)
    wanted = np.searchsorted(share, share[-1] * np.arange(1, bins) / bins) + 1
    lowest, highest = np.arange(1, bins), size - np.arange(bins - 1, 0, -1)
    return tuple(
        map(int, np.clip(np.maximum.accumulate(wanted - lowest) + lowest, lowest, highest))
    )


def _moves(state: Cuts, i: int, size: int) -> Iterator[Cuts]:
    """Yield the binnings with edge ``i`` elsewhere."""
    low = state[i - 1] if i else 0
    high = state[i + 1] if i + 1 < len(state) else size + 1
    step = 1
    while step < high - low:
        for place in (state[i] - step, state[i] + step):
            if low < place < high:
                yield (*state[:i], place, *state[i + 1 :])
        step *= 2
    others = (0, *state[:i], *state[i + 1 :], size + 1)
    for a, b in itertools.pairwise(others):
        middle = (a + b) // 2
        if a < middle < b and middle != state[i]:
            yield tuple(sorted((*others[1:-1], middle)))


def _descend(judge: _Judge, state: Cuts, *, size: int) -> tuple[Cuts, bool]:
    """Move one edge at a time to its best place until none helps or the budget is spent."""
    if not np.isfinite(judge(state)):
        raise InputError(
            "no binning to start from has a finite score: give fewer bins, or an observable with "
            "background in all of its range"
        )
    while True:
        before = state
        for i in range(len(state)):
            best = state
            for trial in _moves(state, i, size):
                if judge.spent:
                    return (best if judge(best) < judge(state) else state), False
                if judge(trial) < judge(best) - 1e-9:
                    best = trial
            state = best
        if state == before:
            return state, True
