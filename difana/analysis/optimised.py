"""What the recipe found: observables with bins in every trained region."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from difana._typing import Network
from difana.analysis._parts import only
from difana.analysis.candidates import DESCENT, Candidate, Observable
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.number_of_bins import BinCurve
from difana.analysis.trees import BoostedTrees
from difana.train import AbstractTraining


class Optimised(AbstractTraining):
    """What the recipe found, entries by trained region in their order.

    Attributes:
        observables: The best candidate.
        baselines: The networks of cross-entropy.
        bandwidths: Kernel widths at the end of a descent, in units of the observables (static).
        history: Records of all stages (static); of those of one of several regions, its name.
        status: How the trainings ended, bits of `difana.train.TrainStatus`.
        diagnosis: What went wrong in them, and the remedy; empty where nothing did.
        scores: The efficient scores; empty where they were not asked for.
        candidates: All candidates.
        chosen: Name of the best one on held-out events (static).
        curves: Limit against number of bins, by candidate; empty for a given number (static).
        trees: Boosted trees, for comparison alone; empty where they were not asked for (static).
    """

    observables: tuple[Observable, ...]
    baselines: tuple[Network, ...]
    bandwidths: tuple[float, ...] = eqx.field(static=True)
    history: tuple[dict[str, Any], ...] = eqx.field(static=True)
    status: int = eqx.field(static=True)
    diagnosis: str = eqx.field(static=True)
    scores: tuple[EfficientScore, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    chosen: str = eqx.field(static=True, default=DESCENT)
    curves: tuple[dict[str, BinCurve], ...] = eqx.field(static=True, default=())
    trees: tuple[BoostedTrees, ...] = eqx.field(static=True, default=())

    @property
    def net(self) -> Network:
        """The best network of the only trained region."""
        return only(self.observables, "trained regions", "observables").net

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Bin edges of its first output."""
        return only(self.observables, "trained regions", "observables").edges

    @property
    def bins(self) -> int:
        """Number of bins in the only trained region."""
        return len(self.edges) - 1

    @property
    def baseline_net(self) -> Network:
        """The network of cross-entropy of the only trained region."""
        return only(self.baselines, "trained regions", "baselines")

    @property
    def score_net(self) -> EfficientScore | None:
        """The efficient score of the only trained region; None where it was not asked for."""
        return only(self.scores, "trained regions", "scores") if self.scores else None

    @property
    def bandwidth(self) -> float:
        """Kernel width at the end of a descent in the only trained region."""
        return only(self.bandwidths, "trained regions", "bandwidths")
