"""OmniFold half step by half step, with a checkpoint after each."""

from __future__ import annotations

import dataclasses
import os
import zlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from difana._progress import ProgressBar
from difana._typing import PyTree
from difana.train.checkpoint import Checkpoints
from difana.unfold._levels import Inputs, levels_of
from difana.unfold.omnifold import finished
from difana.unfold.report import IterationReport, OmniFoldWeights
from difana.unfold.settings import Settings
from difana.unfold.steps import State, detector_step, start_state, truth_step


@eqx.filter_jit
def _start(inputs: Inputs) -> State:
    return start_state(levels_of(inputs))


@eqx.filter_jit
def _first(inputs: Inputs, state: State, iteration: Array) -> State:
    return detector_step(levels_of(inputs), state, iteration)


@eqx.filter_jit
def _second(
    inputs: Inputs, state: State, before: PyTree, iteration: Array
) -> tuple[State, IterationReport]:
    return truth_step(levels_of(inputs), state, before, iteration)


def omnifold_with_checkpoints(
    inputs: Inputs,
    folder: str | os.PathLike[str],
    *,
    resume: bool = True,
    progress_bar: bool = True,
    stop_after: int | None = None,
) -> OmniFoldWeights | None:
    """Run OmniFold with a checkpoint after each half step; continue the one in the folder.

    Args:
        inputs: What ``difana.unfold.omnifold.prepared`` returns.
        folder: Folder of the checkpoints of this run.
        resume: False: delete the checkpoints and start over.
        progress_bar: False for no bar; there is none without a terminal in any case.
        stop_after: Stop after so many half steps (as if interrupted) and return None.

    Raises:
        ConfigError: If the checkpoint is of another run or unreadable.
    """
    iterations = inputs.settings.iterations
    state = _start(inputs)
    shape = jax.eval_shape(_second, inputs, state, state.reco, jnp.asarray(0))[1]
    tree = {
        "state": state,
        "before": state.reco,
        "history": np.zeros((iterations, *state.log_push.shape), state.log_push.dtype),
        "report": jax.tree.map(lambda s: np.zeros((iterations, *s.shape), s.dtype), shape),
    }
    done = 0
    with Checkpoints(folder, fingerprint=_fingerprint(inputs)) as store:
        if not resume:
            store.clear()
        found = store.restore(tree)
        if found is not None:
            done, tree = found.step, found.tree
            for name in ("history", "report"):  # filled in below
                tree[name] = jax.tree.map(lambda leaf: np.array(leaf), tree[name])
        with ProgressBar(
            "unfold",
            total=2 * iterations,
            done=done,
            figures=("loss", "change"),
            enabled=progress_bar,
        ) as bar:
            for half in range(done, 2 * iterations):
                tree = _half(inputs, tree, half)
                store.save(half + 1, tree, facts={})
                one = tree["state"].one
                change = float(np.mean(tree["report"].change[half // 2]))
                bar.update(half + 1, loss=float(jnp.mean(one.loss)), change=change)
                if stop_after is not None and half + 1 >= stop_after:
                    return None
    report = jax.tree.map(jnp.asarray, tree["report"])
    return finished(inputs, tree["state"], jnp.asarray(tree["history"]), report)


def _half(inputs: Inputs, tree: dict[str, Any], half: int) -> dict[str, Any]:
    """Return the tree after one half step."""
    state, number = tree["state"], half // 2
    iteration = jnp.asarray(number)
    if half % 2 == 0:
        return {**tree, "state": _first(inputs, state, iteration), "before": state.reco}
    state, report = _second(inputs, state, tree["before"], iteration)
    tree["history"][number] = np.asarray(state.log_push)
    for target, value in zip(
        jax.tree.leaves(tree["report"]), jax.tree.leaves(report), strict=True
    ):  # fmt: skip
        target[number] = np.asarray(value)
    return {**tree, "state": state}


def _fingerprint(inputs: Inputs) -> dict[str, Any]:
    """Return JSON values that differ where the inputs differ."""
    arrays, _ = eqx.partition(inputs, eqx.is_array)
    checks = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        values = np.ascontiguousarray(np.asarray(leaf))
        checks[jax.tree_util.keystr(path)] = f"{values.shape} {zlib.crc32(values.tobytes())}"
    return {"settings": _plain(inputs.settings), "arrays": checks}


def _plain(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON values."""
    named = settings._asdict()
    return {**named, "training": dataclasses.asdict(named["training"])}
