"""What the loop remembers besides the state: the best state so far, and why it stops."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx

from difana._errors import ConfigError
from difana._typing import PyTree
from difana.train.status import TrainStatus


class Book(eqx.Module):
    """The best state so far and the status.

    Attributes:
        best: The weights with the lowest metric, and the memory there.
        metric: That metric; infinite before the first finite one.
        best_step: Number of steps after which it was measured.
        waited: Number of validations since.
        status: Bits of `TrainStatus`; None while the training runs.
        diagnosis: Why it diverged.
    """

    best: PyTree
    metric: float = math.inf
    best_step: int = 0
    waited: int = 0
    status: int | None = eqx.field(static=True, default=None)
    diagnosis: str = eqx.field(static=True, default="")

    def judge(self, metric: float, best: PyTree, *, step: int) -> Book:
        """Return the book after a validation; NaN is never lower."""
        if metric < self.metric:
            return dataclasses.replace(self, best=best, metric=metric, best_step=step, waited=0)
        return dataclasses.replace(self, waited=self.waited + 1)

    @property
    def running(self) -> bool:
        """Whether the training has not ended."""
        return self.status is None

    def stop(self, status: TrainStatus, diagnosis: str = "") -> Book:
        """Return the book of a training that has ended."""
        return dataclasses.replace(self, status=int(status), diagnosis=diagnosis)

    def facts(self) -> dict[str, Any]:
        """Return everything but the best state, as JSON values."""
        return {
            "metric": self.metric if math.isfinite(self.metric) else None,
            "best_step": self.best_step,
            "waited": self.waited,
            "status": self.status,
            "diagnosis": self.diagnosis,
        }

    @staticmethod
    def from_facts(facts: dict[str, Any], *, best: PyTree) -> Book:
        """Return the book of a checkpoint."""
        names = ("metric", "best_step", "waited", "status", "diagnosis")
        missing = [name for name in names if name not in facts]
        if missing:
            raise ConfigError(
                f"the checkpoint holds no '{missing[0]}': another version of difana wrote it; "
                "start over with resume=False"
            )
        metric = math.inf if facts["metric"] is None else facts["metric"]
        rest = {name: facts[name] for name in names[1:]}
        return Book(best=best, metric=metric, **rest)
