"""Candidates for the observables of an analysis, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float

from difana._typing import Network
from difana.analysis._parts import only
from difana.analysis.cuts import uncut
from difana.analysis.unrolled import Unrolled

CROSS_ENTROPY = "cross-entropy, best bins"
SCORE = "efficient score, best bins"
DESCENT = "trained on the objective"
SLICED = "efficient score in slices, best bins"
GIVEN = "given network and edges"
TRUST = (SCORE, GIVEN, CROSS_ENTROPY, DESCENT, SLICED)
FILES = {
    CROSS_ENTROPY: "weights_baseline.eqx",
    GIVEN: "weights_baseline.eqx",
    SCORE: "weights_score.eqx",
    DESCENT: "weights_descent.eqx",
    SLICED: "weights_sliced.eqx",
}


class Observable(eqx.Module):
    """What is binned in a trained region.

    Attributes:
        net: The network; its first output is binned.
        edges: Bin edges.
        region: Name of the region (static).
    """

    net: Network
    edges: Float[np.ndarray, " edges"]
    region: str = eqx.field(static=True, default="SR")

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1


class Candidate(eqx.Module):
    """Observables that might be those of the analysis.

    Attributes:
        observables: One for each trained region.
        name: What they are (static).
        metric: The objective on held-out events in hard bins, penalties included (static).
        error: Statistical error of its difference to that of the first candidate in the order of
            trust (`chosen_of`), from the number of held-out events (static).
    """

    observables: tuple[Observable, ...]
    name: str = eqx.field(static=True)
    metric: float = eqx.field(static=True)
    error: float = eqx.field(static=True, default=0.0)

    @property
    def net(self) -> Network:
        """The network of the only trained region."""
        return only(self.observables, "trained regions", "observables").net

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Bin edges in the only trained region."""
        return only(self.observables, "trained regions", "observables").edges

    @property
    def file(self) -> str:
        """Name of the file of its weights in a result folder."""
        return FILES[self.name]


def breaks_of(net: Network) -> tuple[float, ...]:
    """Return where the observable begins anew; nowhere if it is of one dimension."""
    net = uncut(net)
    return tuple(map(float, net.breaks)) if isinstance(net, Unrolled) else ()


def trusted(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate that is trusted without a look at held-out events."""
    return min(candidates, key=lambda own: TRUST.index(own.name))


def chosen_of(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate that is best on held-out events, by more than its error.

    Held-out events are few. The efficient score (or what the training starts from) is taken unless
    another candidate is better by more than the statistical error of the difference.

    Example:
        >>> score = Candidate((), SCORE, -0.60)
        >>> chosen_of([score, Candidate((), DESCENT, -0.61, 0.02)]).name
        'efficient score, best bins'
    """
    first = trusted(candidates)
    if not np.isfinite(first.metric):
        return min(candidates, key=lambda own: own.metric)
    better = [own for own in candidates if own.metric < first.metric - own.error]
    return min((first, *better), key=lambda own: own.metric)
