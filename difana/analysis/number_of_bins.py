"""How many bins an observable is worth: as many as held-out events confirm."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from difana.analysis.best_bins import cell_edges
from difana.analysis.linear_limit import LinearLimit
from difana.analysis.pooled import resampled
from difana.analysis.templates import ObservedSample, hard_channel
from difana.likelihood import Channel

LADDER = (2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
"""Numbers of bins that are compared."""

_REPLICAS = 40
_NEAR = 0.01  # gains below are left: each bin costs simulation and time
_POOR = 0.04  # a bin of four fifths of the events that are wanted


@dataclasses.dataclass(frozen=True)
class BinCurve:
    """Limit against number of bins.

    Attributes:
        bins: Numbers of bins.
        limits: Expected limits to first order (`LinearLimit`), bins chosen on training events,
            filled with validation events.
        errors: Statistical errors of what the chosen number gains or loses on each.
        chosen: The number that was chosen.
    """

    bins: tuple[int, ...]
    limits: tuple[float, ...]
    errors: tuple[float, ...]
    chosen: int


def number_of_bins(
    train: Sequence[ObservedSample],
    validation: Sequence[ObservedSample],
    *,
    poi: str | Sequence[str] = "mu",
    others: Sequence[Channel] = (),
    staterror: bool = True,
    minimum_events: float = 10.0,
    ladder: Sequence[int] = LADDER,
    replicas: int = _REPLICAS,
    seed: int = 0,
    breaks: Sequence[float] = (),
) -> BinCurve:
    r"""Choose the number of bins: the smallest whose limit is within a hundredth of the lowest.

    For each number the best bins are searched on training events (to first order, `LinearLimit`)
    and filled with validation events. The limits know the statistical uncertainty of the
    simulation, so that more bins are no gain of their own. The error of a gain is that of the
    difference between two numbers over bootstrap samples of the validation events, in which both
    share the events; stopping where a gain is within its error loses 10 % in small steps. Numbers
    whose best binning has a bin of fewer than ``minimum_events`` effective background events in the
    training are left out, with all larger ones.

    Args:
        train: Training samples with their observable.
        validation: Held-out samples, the same.
        poi: Parameter of interest; what it multiplies is signal.
        others: Further channels.
        staterror: Include the statistical uncertainty of the simulation.
        minimum_events: Effective simulated background events wanted in each bin.
        ladder: Numbers to compare, increasing.
        replicas: Bootstrap samples.
        seed: Of these.
        breaks: Where the observable begins anew (`Unrolled`).

    Returns:
        The curve and what was chosen.

    Raises:
        InputError: If the observable has too few distinct values for the smallest number.

    Example:
        >>> from difana.analysis import Values
        >>> rng = np.random.default_rng(0)
        >>> def half():
        ...     s, b = rng.normal(1, 1, 3000), rng.normal(0, 1, 3000)
        ...     return (ObservedSample("s", Values(s, np.full(3000, 0.01)), normfactors=("mu",)),
        ...             ObservedSample("b", Values(b, np.full(3000, 1.0))))
        >>> curve = number_of_bins(half(), half())
        >>> curve.chosen > 3, curve.limits[0] > 1.05 * curve.limits[3]
        (True, True)
    """
    # the final bins are those of training and validation events together
    share = len(train[0].nominal.x) / (len(train[0].nominal.x) + len(validation[0].nominal.x))
    options = {"poi": poi, "minimum": minimum_events * share if staterror else 0.0}
    grid = cell_edges(train, poi=poi, bins=ladder[0], breaks=breaks)

    def linear(samples: Sequence[ObservedSample]) -> LinearLimit:
        fine = hard_channel(samples, grid, name="SR", staterror=staterror)
        return LinearLimit(fine, others, **options)

    searched = linear(train)
    grown = searched.grow(max(ladder))
    rows = {}
    for number in ladder:
        if number not in grown:
            break
        full = searched.full(grown[number])
        if rows and searched.poverty(full)[0] > _POOR:
            break
        rows[number] = full
    numbers = tuple(rows)

    def limits(samples: Sequence[ObservedSample]) -> np.ndarray:
        seen = linear(samples)
        return np.array([float(seen.limit(rows[number])[0]) for number in numbers])

    found = limits(validation)
    rng = np.random.default_rng(seed)
    drawn = np.log([limits(resampled(validation, rng)) for _ in range(replicas)])
    chosen = int(np.argmax(found <= (1 + _NEAR) * found.min()))
    errors = found * np.std(drawn - drawn[:, [chosen]], axis=0)
    return BinCurve(numbers, tuple(map(float, found)), tuple(map(float, errors)), numbers[chosen])
