"""The options of the loop that its thin doors hand on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypedDict

from jax.sharding import Mesh

from difana._typing import PyTree
from difana.train._loop import Validate, Watch
from difana.train.history import Logger


class LoopOptions(TypedDict, total=False):
    """Options of `difana.train.minimise`, without those that `difana.train.Training` has."""

    select: Literal["best", "last"]
    trained: Callable[[Any], bool] | PyTree
    memory: PyTree
    watch: Watch | None
    max_nonfinite: int
    max_rise: float
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: int | None
    resume: bool | Literal["same"]
    fingerprint: str
    history: str | os.PathLike[str] | None
    logger: Logger | None
    stage: str
    progress_bar: bool
    mesh: Mesh | None


class Options(LoopOptions, total=False):
    """All options of `difana.train.minimise`, which explains them."""

    validate: Validate | None
    validate_every: int | None
    patience: int | None
    average: float | None
