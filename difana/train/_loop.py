"""The loop itself: step, record, validate, decide, save."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from difana._errors import ConfigError
from difana._progress import ProgressBar
from difana._typing import PyTree
from difana.train._book import Book
from difana.train._journal import Journal
from difana.train.checkpoint import Checkpoints
from difana.train.status import TrainStatus
from difana.train.step import StepReport, TrainState

Validate = Callable[..., tuple[Array, Mapping[str, Array]]]
"""``validate(trainable) -> (metric to minimise, aux)``, closed over the held-out events; with a
memory ``validate(trainable, memory)``."""

Draw = Callable[[int], Any]
"""``draw(index) -> batch``, pure in the index."""

Watch = Callable[[PyTree, Any], Sequence[str]]
"""``watch(trainable, batch) -> what is wrong, in words``, see ``difana.train.diagnose``."""


@dataclass(frozen=True)
class Plan:
    """What does not change during the loop."""

    step: Any  # jitted: (state, fixed, batch) -> (state, report)
    fixed: PyTree
    draw: Draw
    validate: Callable[[PyTree, PyTree], tuple] | None  # (leaves, memory) -> (metric, aux)
    watch: Watch | None
    copy: Callable[[PyTree], PyTree]
    steps: int
    validate_every: int
    checkpoint_every: int
    patience: int | None
    max_nonfinite: int


def run(
    plan: Plan,
    state: TrainState,
    book: Book,
    *,
    journal: Journal,
    store: Checkpoints | None,
    bar: ProgressBar,
) -> tuple[TrainState, Book]:
    """Step until the book says stop; return the last good state and the book."""
    step = int(np.max(state.step))
    batch = plan.draw(step)
    clean, clean_step = plan.copy((state.trained, state.average)), step
    if step == 0:
        wrong = _wrong(plan, state, batch)
        if wrong:
            book = book.stop(TrainStatus.DIVERGED, f"the initial state cannot be trained: {wrong}")
        else:
            book = _validated(plan, state, book, journal, step=step)
    while book.running:
        state, report = plan.step(state, plan.fixed, batch)
        step += 1
        drawn = batch
        if step < plan.steps:
            batch = plan.draw(step)  # while the device is busy
        report = _of_all(jax.device_get(report), journal, step=step)
        diverged = int(report.consecutive) >= plan.max_nonfinite
        saving = store is not None and step % plan.checkpoint_every == 0
        due = step == plan.steps or step % plan.validate_every == 0
        wrong = _wrong(plan, state, drawn) if diverged or due or saving else ""
        if diverged:
            message = diagnosis(report, state, step=step)
            state = _sound(state, plan.max_nonfinite)
            book = _validated(plan, state, book, journal, step=step)
            book = book.stop(TrainStatus.DIVERGED, f"{message} {wrong}".strip())
        elif wrong:
            message = (
                f"step {step}: {wrong}. The state of step {clean_step} is the last good one. Lower "
                "the learning rate, or keep training away from there (losses.minimum_events, "
                "min_width of trainable edges)."
            )
            state = replace(state, trained=clean[0], average=clean[1])
            book = book.stop(TrainStatus.DIVERGED, message)
        elif due:
            book = _validated(plan, state, book, journal, step=step)
        if book.running and plan.watch is not None and (due or saving):
            clean, clean_step = plan.copy((state.trained, state.average)), step
        if book.running:
            if step == plan.steps:
                book = book.stop(TrainStatus.OK)
            elif plan.patience is not None and book.waited >= plan.patience:
                book = book.stop(TrainStatus.STOPPED_EARLY)
        bar.update(step, loss=float(report.loss), metric=book.metric)
        if store is not None and (saving or not book.running):
            journal.sync()
            facts = {**book.facts(), **journal.facts()}
            store.save(step, {"state": state, "best": book.best}, facts=facts)
    return state, book


def _wrong(plan: Plan, state: TrainState, batch: Any) -> str:
    """Return what the watch finds, in one line."""
    if plan.watch is None:
        return ""
    return "; ".join(plan.watch(plan.copy(state.trained), batch))


def diagnosis(report: StepReport, state: TrainState, *, step: int) -> str:
    """Say which numbers were not finite, and what to try."""
    paths = jax.tree_util.tree_leaves_with_path(state.trained)
    bad = [
        jax.tree_util.keystr(path)
        for (path, _), finite in zip(paths, report.finite, strict=True)
        if not finite
    ]
    if not math.isfinite(report.loss):
        what = f"the loss is {float(report.loss)}"
    elif report.loss > report.ceiling:
        what = (
            f"the loss is {float(report.loss):.4g}, far above its lowest value, "
            f"{float(np.min(state.lowest)):.4g}"
        )
    elif bad:
        what = f"the gradient is not finite in {', '.join(bad[:3])}"
        what += f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    else:
        what = "the update overflows"
    odd = [name for name, value in report.aux.items() if not math.isfinite(value)]
    also = f" (not finite in aux, too: {', '.join(odd)})" if odd else ""
    return (
        f"steps {step - int(report.consecutive) + 1} to {step} skipped: {what}{also}. Lower the "
        "learning rate, clip the gradient (optax.clip_by_global_norm) or guard the loss."
    )


def _sound(state: TrainState, most: int) -> TrainState:
    """Return the state with the last sound leaves, of those members that skipped too often."""
    bad = state.consecutive >= most

    def back(old: Array, new: Array) -> Array:
        return jnp.where(bad.reshape(bad.shape + (1,) * (new.ndim - bad.ndim)), old, new)

    trained, average = jax.tree.map(back, state.sound, (state.trained, state.average))
    return replace(state, trained=trained, average=average)


def _of_all(report: StepReport, journal: Journal, *, step: int) -> StepReport:
    """Record a step; of several members return the median loss, and the worst of what is bad."""
    more = {}
    if report.loss.ndim:
        more["losses"] = report.loss.tolist()
        merged: Any = {
            "loss": np.median(report.loss),
            "aux": {name: value.mean(axis=0) for name, value in report.aux.items()},
            "gradient_norm": report.gradient_norm.max(),
            "skipped": report.skipped.any(),
            "consecutive": report.consecutive.max(),
            "finite": report.finite.all(axis=0),
            "ceiling": report.ceiling.max(),
        }
        report = StepReport(**merged)
    journal.log(
        "train",
        step,
        loss=float(report.loss),
        gradient_norm=float(report.gradient_norm),
        skipped=bool(report.skipped),
        aux={name: value.item() for name, value in report.aux.items()},
        **more,
    )
    return report


def _validated(plan: Plan, state: TrainState, book: Book, journal: Journal, *, step: int) -> Book:
    """Return the book after measuring the metric, where there is one."""
    if plan.validate is None:
        return book
    # A copy, as the next step overwrites the state in place and the caller may keep what it got.
    leaves, memory = plan.copy((state.weights, state.memory))
    result = plan.validate(leaves, memory)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        raise ConfigError("validate must return (metric, dictionary of scalars to log).")
    metric = float(result[0])
    judged = book.judge(metric, (leaves, memory), step=step)
    journal.log(
        "validation",
        step,
        metric=metric,
        improved=judged.waited == 0,
        aux={name: np.asarray(value).item() for name, value in result[1].items()},
    )
    return judged
