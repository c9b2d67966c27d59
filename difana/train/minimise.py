"""Minimise any loss over any batches: the one training loop."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from difana._errors import ConfigError
from difana._options import whole_number
from difana._progress import ProgressBar
from difana._typing import PyTree
from difana.train._book import Book
from difana.train._fingerprint import fingerprint_of
from difana.train._journal import Journal
from difana.train._loop import Draw, Plan, Validate, Watch, run
from difana.train.checkpoint import Checkpoints
from difana.train.history import Logger
from difana.train.mesh import checked_mesh, gather, replicate, shard_batch
from difana.train.result import TrainResult
from difana.train.status import TrainStatus
from difana.train.step import Loss, LossWithMemory, TrainState, copy_leaves, make_step, start_state

_SAME = 1e-5  # sums of a GPU differ from call to call


def minimise(
    loss: Loss | LossWithMemory,
    trainable: PyTree,
    draw: Draw,
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    key: PRNGKeyArray,
    validate: Validate | None = None,
    validate_every: int | None = None,
    patience: int | None = None,
    select: Literal["best", "last"] = "best",
    trained: Callable[[Any], bool] | PyTree = eqx.is_inexact_array,
    memory: PyTree = None,
    average: float | None = None,
    watch: Watch | None = None,
    max_nonfinite: int = 10,
    max_rise: float = 1e3,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool | Literal["same"] = True,
    fingerprint: str = "",
    history: str | os.PathLike[str] | None = None,
    logger: Logger | None = None,
    stage: str = "train",
    progress_bar: bool = True,
    mesh: Mesh | None = None,
) -> TrainResult:
    """Minimise a loss over batches of anything.

    Each step draws a batch, differentiates ``loss(trainable, batch, step)`` and updates; a step
    with a loss, gradient or update that is not finite, or a loss far above its lowest value, is
    skipped. Too many such steps in a row, or something found by ``watch``, end the training as
    ``DIVERGED``: the message names the culprit, and the last good state is returned and, with
    ``checkpoint``, on disk. The metric of ``validate`` is measured on the initial state, every
    ``validate_every`` steps and at the end, and the state with the lowest is returned.

    With ``checkpoint`` a killed run continues bit for bit: the same weights and the same history
    file as without the kill (on a device whose sums are deterministic, such as a CPU). A finished
    run called again returns its result at once. Both only if options, key, batches, initial and
    untrained numbers are the same and loss and optimizer make the same program: what JAX traces of
    a step is compared, with all numbers in it, so that another loss, learning rate or constant of a
    closure (or another version of JAX) is refused, a function that was moved or renamed is not. Of
    an interrupted run, ``validate`` must find the initial state as good as before.

    Args:
        loss: ``loss(trainable, batch, step) -> (scalar, aux)``: ``step`` is a `difana.losses.Step`
            (index, progress from 0 at the first step to 1 at the last, random key), ``aux`` a
            dictionary of scalars for the history.
        trainable: Any PyTree: a Flax NNX or Equinox module, a dictionary of such, ...
        draw: ``draw(index) -> batch`` for the index 0, 1, ..., a function of the index alone: a
            `RowSampler`, a `difana.data.BatchSampler`, or one of your own. With checkpoints, give
            yours a method ``facts()``: JSON values that differ for other batches (by default the
            first batch is compared).
        steps: Number of steps.
        optimizer: An optax gradient transformation.
        key: Key of what the loss draws.
        validate: ``validate(trainable) -> (metric, aux)``, with a memory ``validate(trainable,
            memory)``; compile it yourself (``eqx.filter_jit``). A metric that is not finite never
            is the best.
        validate_every: Steps between validations; a twentieth of ``steps`` by default.
        patience: Stop after this many validations in a row without a new best.
        select: Which state to return.
        trained: Which leaves are trained: a function of the leaf, or a PyTree of booleans
            (``difana.nn.trainable``).
        memory: What the loss hands on from step to step, at the start (running templates, batch
            statistics, ...): the loss then is ``loss(trainable, batch, step, memory) -> (scalar,
            aux, memory)``. A skipped step leaves it as it was; checkpoints and result hold it.
        average: Decay, such as 0.999, of an exponential average of the weights over the steps
            (`difana.train.Average`), which then is validated and returned.
        watch: ``watch(trainable, batch) -> problems in words`` (see ``diagnose``): called before
            every validation and checkpoint, on the initial state, and when the training diverges;
            any problem ends the training. Compile what makes the channel yourself.
        max_nonfinite: Stop after this many skipped steps in a row.
        max_rise: How far the loss may rise above its lowest value, in units of 1 + that value.
        checkpoint: Folder of the checkpoints; one folder for one training.
        checkpoint_every: Steps between checkpoints; a tenth of ``steps`` by default.
        resume: False: delete the checkpoints and start over; ``"same"``: do so where they are of
            another training, instead of refusing them.
        fingerprint: Anything else that a resumed run must agree on, e.g. the configuration.
        history: JSONL file of the records; in the checkpoint folder by default.
        logger: Gets every record, too.
        stage: Name in the history, for trainings in several stages.
        progress_bar: False for no bar; there is none without a terminal in any case.
        mesh: A mesh with one axis: the rows of a batch are spread over its devices, samples and
            `Weighted` rows with some of weight zero where their number is no multiple (the loss
            must be weighted, as all are here).

    Returns:
        The result; its status says whether the numbers can be trusted.

    Raises:
        ConfigError: If an option is out of range, the loss returns something else, no leaf is
            trained, or the checkpoint is of another training or unreadable.
        InputError: If another run holds the folder of the checkpoints, or the disk is full
            (`WriteError`; what was saved stays).

    Example:
        >>> from difana.train import RowSampler
        >>> draw = RowSampler(jnp.arange(8.0), key=jax.random.key(0), size=8)
        >>> def squares(centre, batch, step):
        ...     return jnp.mean((batch - centre) ** 2), {"centre": centre}
        >>> result = minimise(squares, jnp.asarray(0.0), draw, steps=50, optimizer=optax.sgd(0.2),
        ...                   key=jax.random.key(1))
        >>> result.ok, result.message, round(float(result.trainable), 3)
        (True, 'ok', 3.5)
    """
    begin = time.perf_counter()
    steps = whole_number("steps", steps)
    validate_every = max(1, steps // 20) if validate_every is None else validate_every
    checkpoint_every = max(1, steps // 10) if checkpoint_every is None else checkpoint_every
    validate_every = whole_number("validate_every", validate_every)
    checkpoint_every = whole_number("checkpoint_every", checkpoint_every)
    patience = None if patience is None else whole_number("patience", patience)
    max_nonfinite = whole_number("max_nonfinite", max_nonfinite)
    if select not in ("best", "last"):
        raise ConfigError(f"select = '{select}': choose 'best' or 'last'.")
    start, fixed, combine = _split(trainable, trained)
    state = start_state(start, optimizer, key=key, memory=memory, averaged=average is not None)
    book = Book(best=copy_leaves((start, memory)))
    if checkpoint is not None and history is None:
        history = Path(checkpoint) / "history.jsonl"
    journal = Journal(history, logger, stage=stage)
    mesh = None if mesh is None else checked_mesh(mesh)

    def measured(leaves: PyTree, own: PyTree) -> tuple:
        everything = combine(leaves, fixed)
        return validate(everything) if memory is None else validate(everything, own)  # pyright: ignore

    plan = Plan(
        step=make_step(
            loss, optimizer, combine=combine, steps=steps, max_rise=max_rise, average=average
        ),
        fixed=fixed if mesh is None else replicate(fixed, mesh=mesh),
        draw=draw if mesh is None else _sharded(draw, mesh),
        validate=None if validate is None else measured,
        watch=None if watch is None else lambda leaves, batch: watch(combine(leaves, fixed), batch),
        copy=copy_leaves if mesh is None else gather,
        steps=steps,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        patience=patience,
        max_nonfinite=max_nonfinite,
    )
    with ExitStack() as stack:
        store = None
        if checkpoint is not None:
            options = {
                "stage": stage,
                "steps": steps,
                "validate_every": None if validate is None else validate_every,
                "patience": patience,
                "max_nonfinite": max_nonfinite,
                "average": average,
                "fingerprint": fingerprint,
            }
            # the program is traced once, here or by the first step
            program = plan.step.trace(state, fixed, draw(0)).jaxpr
            facts = fingerprint_of(options, state, fixed, draw, program, key=key)
            store = stack.enter_context(Checkpoints(checkpoint, fingerprint=facts))
            state, book = _restore(store, state, book, journal=journal, resume=resume)
            if book.running and int(state.step) > 0:
                _compare_metric(plan, start, memory, journal)
        if book.running:
            stack.callback(journal.close)
            journal.start(step=int(state.step))
            show = ProgressBar(
                stage,
                total=steps,
                done=int(state.step),
                figures=("loss", "metric"),
                enabled=progress_bar,
            )
            bar = stack.enter_context(show)
            state = state if mesh is None else replicate(state, mesh=mesh)
            state, book = run(plan, state, book, journal=journal, store=store, bar=bar)
    last = plan.copy((state.weights, state.memory))
    found = math.isfinite(book.metric)
    lost = validate is not None and not found and book.status != TrainStatus.DIVERGED
    chosen, kept = book.best if found and select == "best" else last
    return TrainResult(
        trainable=combine(chosen, fixed),
        last=combine(last[0], fixed),
        best_metric=book.metric if found else math.nan,
        best_step=book.best_step if found else int(state.step),
        steps_done=int(state.step),
        skipped=int(state.skipped),
        memory=kept,
        status=int(TrainStatus.NO_METRIC if lost else book.status or 0),
        diagnosis="the last state is returned" if lost else book.diagnosis,
        history=journal.records,
        seconds=time.perf_counter() - begin,
    )


def _split(
    trainable: PyTree, trained: Callable[[Any], bool] | PyTree
) -> tuple[PyTree, PyTree, Callable[[PyTree, PyTree], PyTree]]:
    """Return the trained leaves, the other arrays, and how to put everything together."""
    start, rest = eqx.partition(trainable, trained)
    fixed, static = eqx.partition(rest, eqx.is_array)
    leaves = jax.tree_util.tree_leaves_with_path(start)
    if not leaves:
        raise ConfigError("nothing to train: the trainable has no floating-point array.")
    for path, leaf in leaves:
        if not (eqx.is_array_like(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)):
            raise ConfigError(
                f"trained leaf {jax.tree_util.keystr(path)} is no floating-point array; "
                "exclude it with `trained`."
            )
    return start, fixed, lambda leaves, arrays: eqx.combine(leaves, arrays, static)


def _sharded(draw: Draw, mesh: Mesh) -> Draw:
    """Return the batches spread over the mesh."""
    if getattr(draw, "whole", False):  # all are the same
        batch = shard_batch(draw(0), mesh=mesh)
        return lambda step: batch
    return lambda step: shard_batch(draw(step), mesh=mesh)


def _restore(
    store: Checkpoints,
    state: TrainState,
    book: Book,
    *,
    journal: Journal,
    resume: bool | Literal["same"],
) -> tuple[TrainState, Book]:
    """Return the state of the latest checkpoint, or the one given where there is none."""
    if not resume or (resume == "same" and store.differences()):
        store.clear()
        return state, book
    restored = store.restore(
        {"state": state, "best": book.best},
        accept=lambda step, facts: journal.recover(step=step, facts=facts),
    )
    if restored is None:
        return state, book
    return restored.tree["state"], Book.from_facts(restored.facts, best=restored.tree["best"])


def _compare_metric(plan: Plan, start: PyTree, memory: PyTree, journal: Journal) -> None:
    """Refuse to continue with another metric, or one measured on other events."""
    before = [r for r in journal.records if r["kind"] == "validation" and r["step"] == 0]
    if plan.validate is None or not before or before[0]["metric"] is None:
        return
    was, now = before[0]["metric"], float(plan.validate(*copy_leaves((start, memory)))[0])
    if not math.isclose(was, now, rel_tol=_SAME, abs_tol=_SAME):
        raise ConfigError(
            f"the metric of the initial state was {was:.9g}, is {now:.9g}: the checkpoint is of a "
            "training with another `validate`, or other events in it. Give another folder for "
            "`checkpoint`, or start over with resume=False."
        )
