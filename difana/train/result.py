"""The outcome of a training."""

from __future__ import annotations

import equinox as eqx

from difana._typing import PyTree
from difana.train.history import Record


class TrainResult(eqx.Module):
    """The outcome of a training.

    Attributes:
        trainable: The chosen state: the best one, or the last with ``select="last"``, without
            ``validate``, or where no metric was finite; with ``average`` of the averaged weights.
        last: The last good state, averaged likewise.
        best_metric: The lowest metric; NaN where there is none.
        best_step: Number of steps after which it was reached; 0 is the initial state.
        steps_done: Number of steps done.
        skipped: Number of steps without update, because of non-finite numbers.
        status: ``"finished"`` (all steps), ``"stopped early"`` (patience) or ``"diverged"``.
        message: A diagnosis where something went wrong, else empty.
        memory: What the loss had handed on at the chosen state; None for a loss without memory.
        history: The records of this stage.
        seconds: Wall time of this call; in no file, as it differs from run to run.
    """

    trainable: PyTree
    last: PyTree
    best_metric: float
    best_step: int
    steps_done: int
    skipped: int
    memory: PyTree
    status: str = eqx.field(static=True)
    message: str = eqx.field(static=True)
    history: tuple[Record, ...] = eqx.field(static=True)
    seconds: float = eqx.field(static=True)
