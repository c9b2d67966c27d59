"""The outcome of a training."""
# no postponed annotations here: Equinox would take the text of an AbstractVar for a field

from typing import TYPE_CHECKING

import equinox as eqx

from difana._result import AbstractResult
from difana._typing import PyTree
from difana.train.history import Record
from difana.train.status import TrainStatus


class AbstractTraining(AbstractResult):
    """What a training found, or a method that consists of trainings.

    Attributes:
        status: Bits of `TrainStatus`; 0 if all steps were done.
        diagnosis: What went wrong, and the remedy; empty where nothing did.
    """

    bits = TrainStatus

    if TYPE_CHECKING:

        @property
        def diagnosis(self) -> str:
            """What went wrong."""
            ...

    else:
        diagnosis: eqx.AbstractVar[str]

    @property
    def message(self) -> str:
        """The status in words, and the diagnosis."""
        words = super().message
        return f"{words}: {self.diagnosis}" if self.diagnosis else words


class TrainResult(AbstractTraining):
    """The outcome of a training.

    Attributes:
        trainable: The chosen state: the best one, or the last with ``select="last"``, without
            ``validate``, or where no metric was finite; with ``average`` of the averaged weights.
        last: The last good state, averaged likewise.
        best_metric: The lowest metric; NaN where there is none.
        best_step: Number of steps after which it was reached; 0 is the initial state.
        steps_done: Number of steps done.
        skipped: Number of steps without update, because of non-finite numbers.
        memory: What the loss had handed on at the chosen state; None for a loss without memory.
        status: Bits of `TrainStatus`.
        diagnosis: What went wrong, and the remedy; empty where nothing did.
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
    status: int = eqx.field(static=True)
    diagnosis: str = eqx.field(static=True)
    history: tuple[Record, ...] = eqx.field(static=True)
    seconds: float = eqx.field(static=True)


class AbstractOneTraining(AbstractTraining):
    """What a method found by one training, whose status is that of the training.

    Attributes:
        training: The record of the training.
    """

    if TYPE_CHECKING:

        @property
        def training(self) -> TrainResult:
            """The record of the training."""
            ...

    else:
        training: eqx.AbstractVar[TrainResult]

    @property
    def status(self) -> int:
        """That of the training."""
        return self.training.status

    @property
    def diagnosis(self) -> str:
        """That of the training."""
        return self.training.diagnosis
