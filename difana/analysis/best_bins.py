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
from difana.analysis.start_edges import candidate_edges, pooled
from difana.analysis.templates import ObservedSample, hard_channel
from difana.data import is_signal
from difana.likelihood import Channel, HistoSys, StatError

_WANTED = 4.0  # the strength at which dynamic programming works has this likelihood ratio

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
    poi: str = "mu",
    bins: int,
    name: str = "SR",
    staterror: bool = True,
    cuts: int = 160,
    budget: int = 1500,
    seed: int = 0,
) -> BestBins:
    r"""Search the bin edges that minimise a score in hard bins of all splits together.

    The edges stand on a grid of quantiles of signal and background, dense where the background
    is rare. The grid is filled once and bins are sums of its cells, so a trial costs what its
    score costs. The search starts from the best of the candidates of the recipe and of the
    binning that maximises, by dynamic programming,

    .. math:: \sum_b \frac{(\mu s_b)^2}{\mu s_b + b_b + \sigma_b^2}

    (:math:`\sigma_b` the statistical uncertainty of the simulation, :math:`\mu` where the sum over
    the whole grid is 4): the best binning without systematic uncertainties. From there one edge at
    a time moves by 1, 2, 4, ... cells or into the middle of another bin, as long as a move helps.

    Args:
        splits: Training and validation samples with their observable, each split standing for the
            full yield: what :func:`difana.analysis.observe` makes of networks and samples.
        score: What to minimise, compiled, e.g. what `log_objective` returns.
        poi: Parameter of interest; what it multiplies is signal.
        bins: Number of bins.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.
        cuts: Number of cells of the grid, about.
        budget: Binnings to score at most.
        seed: Seed of the order in which edges move.

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
    candidates = candidate_edges(splits[0], poi=poi, bins=bins)
    together = pooled(splits)
    inner = _grid(together, candidates, poi=poi, cuts=cuts)
    low, high = candidates[0][0], candidates[0][-1]
    everything = np.concatenate([[low], inner, [high]])
    fine = hard_channel(together, everything, name=name, staterror=staterror)
    judge = _Judge(fine, score, budget)
    # the grid is in the type of the observable: an edge may have been rounded down
    cells = [np.abs(inner[:, None] - edges[None, 1:-1]).argmin(axis=0) for edges in candidates]
    starts = [tuple(own + 1) for own in cells]
    best_without = _dynamic(fine, poi=poi, bins=bins)
    starts += [] if best_without is None else [best_without]
    starts = [tuple(map(int, start)) for start in starts]
    scores = [judge(start) for start in starts]
    state = starts[int(np.argmin(scores))]
    state, converged = _descend(judge, state, size=len(inner), seed=seed)
    edges = np.concatenate([[low], inner[np.array(state) - 1], [high]])
    return BestBins(edges, judge(state), tuple(scores), judge.evaluations, converged)


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


def _grid(
    samples: Sequence[ObservedSample],
    candidates: Sequence[np.ndarray],
    *,
    poi: str,
    cuts: int,
) -> Float[np.ndarray, " cuts"]:
    """Return places for inner edges: quantiles, the rarest background events, the candidates."""
    signal = np.concatenate([s.nominal.x for s in samples if is_signal(s, poi)])
    background = np.sort(np.concatenate([s.nominal.x for s in samples if not is_signal(s, poi)]))
    even = (np.arange(cuts // 3) + 0.5) / max(cuts // 3, 1)
    rare = np.unique(np.geomspace(1, max(len(background) / 3, 1), cuts // 3).astype(int))
    places = [np.quantile(signal, even), np.quantile(background, even), background[-rare]]
    low, high = candidates[0][0], candidates[0][-1]
    dtype = samples[0].nominal.x.dtype
    found = np.unique(np.concatenate([*places, *(c[1:-1] for c in candidates)]).astype(dtype))
    return found[(found > low) & (found < high)].astype(float)


def _dynamic(fine: Channel, *, poi: str, bins: int) -> Cuts | None:
    """Return the binning that is best without systematic uncertainties; None for too few cells."""
    signal, background, variance = (np.zeros(np.shape(fine.templates[0].values)) for _ in range(3))
    for template in fine.templates:
        own = np.maximum(np.asarray(template.values), 0.0)
        if is_signal(template, poi):
            signal += own
            continue
        background += own
        for m in template.modifiers:
            if isinstance(m, StatError):
                variance += np.asarray(m.uncertainty) ** 2
    cells = len(signal)
    if cells < bins:
        return None

    def gain(mu: float, s: np.ndarray, rest: np.ndarray) -> np.ndarray:
        some = mu * s + rest > 0
        return np.where(some, (mu * s) ** 2 / np.where(some, mu * s + rest, 1.0), 0.0)

    rest = background + variance
    strengths = np.geomspace(1e-6, 1e6, 241)
    sums = np.array([gain(mu, signal, rest).sum() for mu in strengths])
    mu = strengths[int(np.argmin(np.abs(sums - _WANTED)))]
    below = [np.concatenate([[0.0], np.cumsum(part)]) for part in (signal, rest)]
    # value of a bin from cell i up to cell j
    s, r = (part[None, :] - part[:, None] for part in below)
    value = np.where(np.tri(cells + 1, dtype=bool), -np.inf, gain(mu, s, r))
    best, origin = value[0], []
    for _ in range(bins - 1):
        total = best[:, None] + value
        origin.append(np.argmax(total, axis=0))
        best = np.max(total, axis=0)
    state, place = [], cells
    for back in reversed(origin):
        place = int(back[place])
        state.append(place)
    return tuple(reversed(state))


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


def _descend(judge: _Judge, state: Cuts, *, size: int, seed: int) -> tuple[Cuts, bool]:
    """Move one edge at a time to its best place until none helps or the budget is spent."""
    if not np.isfinite(judge(state)):
        raise InputError(
            "no binning to start from has a finite score: give fewer bins, or an observable with "
            "background in all of its range"
        )
    rng = np.random.default_rng(seed)
    while True:
        moved = False
        for i in rng.permutation(len(state)):
            best = state
            for trial in _moves(state, int(i), size):
                if judge.spent:
                    return (best if judge(best) < judge(state) else state), False
                if judge(trial) < judge(best) - 1e-9:
                    best = trial
            moved |= best != state
            state = best
        if not moved:
            return state, True
