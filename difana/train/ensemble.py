"""Several trainings of one kind in one program: the seeds of a study, batched by ``vmap``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from difana._errors import ConfigError
from difana._options import whole_number
from difana._progress import ProgressBar
from difana._typing import PyTree
from difana.data.batches import BatchSampler
from difana.data.samples import Sample
from difana.train._book import Book
from difana.train._journal import Journal
from difana.train._loop import Plan, run
from difana.train.result import AbstractTraining
from difana.train.step import Loss, copy_leaves, make_step, start_state


class EnsembleResult(AbstractTraining):
    """The outcome of a training of several members.

    Attributes:
        members: The last states, one a member.
        losses: Loss of each member before each update, ``[steps, members]``.
        skipped: Number of updates skipped because of non-finite numbers, ``[members]``.
        status: Bits of `TrainStatus`; it diverged if a member did nothing but skip at the end.
        diagnosis: What went wrong, and the remedy; empty where nothing did.
        seconds: Wall time of this call, compilation included.
    """

    members: tuple[PyTree, ...]
    losses: Float[np.ndarray, "steps members"]
    skipped: Int[np.ndarray, " members"]
    status: int = eqx.field(static=True)
    diagnosis: str = eqx.field(static=True)
    seconds: float = eqx.field(static=True)


def fit_ensemble(
    loss: Loss,
    members: Sequence[PyTree],
    samples: Sequence[Sample] | Sequence[Sequence[Sample]],
    *,
    steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation,
    keys: Sequence[PRNGKeyArray] | Shaped[Array, " members"] | None = None,
    key: PRNGKeyArray | None = None,
    trained: Callable[[Any], bool] | PyTree = eqx.is_inexact_array,
    average: float | None = None,
    max_nonfinite: int = 10,
    progress_bar: bool = True,
    stage: str = "ensemble",
) -> EnsembleResult:
    """Train several members at once: weights and optimizer states have a leading axis.

    Member ``i`` sees the batches of ``fit(..., key=keys[i])`` and ends where that ends, up to
    rounding. One compiled step serves all.

    Args:
        loss: ``loss(trainable, batch, step) -> (scalar, aux)``, as in :func:`fit`.
        members: Networks of equal structure, one a member.
        samples: Samples that all members share, or one sequence of samples a member (of equal
            sizes, where they are not larger than a batch).
        steps: Number of steps.
        batch_size: Number of events of each sample in a batch.
        optimizer: An optax gradient transformation.
        keys: Key of each member: of its batches and of what its loss draws.
        key: Instead of ``keys``: all members see the batches of this key, which costs least; they
            must share the samples, too.
        trained: Which leaves of a member are trained, as in :func:`fit`.
        average: Decay of an average of the weights, as in :func:`difana.train.minimise`.
        max_nonfinite: Stop when a member has skipped this many steps in a row.
        progress_bar: False for no bar.
        stage: Name on the bar.

    Returns:
        The last states; the history is that of the losses.

    Raises:
        ConfigError: If members, keys and samples do not match, or nothing is trained.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from difana.data import Events, Sample
        >>> data = Sample(Events(jnp.arange(8.0)[:, None], jnp.ones(8)), name="data")
        >>> def squares(centre, batch, step):
        ...     return jnp.mean((batch[0].nominal.features - centre) ** 2), {}
        >>> result = fit_ensemble(
        ...     squares, [jnp.asarray(0.0), jnp.asarray(9.0)], [data], steps=50, batch_size=8,
        ...     optimizer=optax.sgd(0.2), keys=jax.random.split(jax.random.key(0)),
        ... )
        >>> [round(float(centre), 3) for centre in result.members], result.losses.shape
        ([3.5, 3.5], (50, 2))
    """
    begin = time.perf_counter()
    shared = isinstance(samples[0], Sample)
    own = cast("list[Sequence[Sample]]", [samples] * len(members) if shared else list(samples))
    if (keys is None) == (key is None) or not (shared or keys is not None):
        raise ConfigError("give keys (one a member), or one key and samples that all share")
    each = cast("list[PRNGKeyArray]", [key] * len(members) if keys is None else list(keys))
    if len(members) == 0 or not len(members) == len(each) == len(own):
        raise ConfigError(
            f"{len(members)} members, {len(each)} keys, samples of {len(own)}: give one each"
        )
    steps, batch_size, max_nonfinite = (
        whole_number(name, value)
        for name, value in (
            ("steps", steps), ("batch_size", batch_size), ("max_nonfinite", max_nonfinite)
        )
    )  # fmt: skip
    parts = [eqx.partition(member, trained) for member in members]
    if not jax.tree.leaves(parts[0][0]):
        raise ConfigError("nothing to train: the members have no floating-point array.")
    # constants of the members may differ, also those in NumPy
    static = eqx.filter(parts[0][1], _is_array, inverse=True)
    fixed = _stacked([eqx.filter(rest, _is_array) for _, rest in parts])
    number = 1 if keys is None else len(members)
    pairs = list(zip(own, each, strict=True))[:number]
    samplers = [BatchSampler(s, key=k, size=batch_size) for s, k in pairs]
    averaged = average is not None
    state = jax.vmap(lambda start, key: start_state(start, optimizer, key=key, averaged=averaged))(
        _stacked([start for start, _ in parts]), jnp.stack(each)
    )
    one_batch = shared and (keys is None or all(sampler.whole for sampler in samplers))
    step = make_step(
        loss,
        optimizer,
        combine=lambda leaves, rest: eqx.combine(leaves, rest, static),
        steps=steps,
        average=average,
    )
    step = jax.jit(jax.vmap(step, in_axes=(0, 0, None if one_batch else 0)), donate_argnums=0)
    plan = Plan(
        step=step,
        fixed=fixed,
        draw=samplers[0] if one_batch else _Together(samplers),
        validate=None,
        watch=None,
        copy=copy_leaves,
        steps=steps,
        validate_every=steps,
        checkpoint_every=steps,
        patience=None,
        max_nonfinite=max_nonfinite,
    )
    journal = Journal(None, None, stage=stage)
    with ProgressBar(stage, total=steps, figures=("loss", "metric"), enabled=progress_bar) as bar:
        state, book = run(plan, state, Book(best=None), journal=journal, store=None, bar=bar)
    done = [
        eqx.combine(*(jax.tree.map(lambda leaf, i=i: leaf[i], t) for t in (state.weights, fixed)),
                    static)
        for i in range(len(members))
    ]  # fmt: skip
    return EnsembleResult(
        members=tuple(done),
        losses=np.array([record["losses"] for record in journal.records], float),
        skipped=np.asarray(state.skipped),
        status=book.status or 0,
        diagnosis=book.diagnosis,
        seconds=time.perf_counter() - begin,
    )


class _Together:
    """The batches of all members, stacked."""

    def __init__(self, samplers: Sequence[BatchSampler]) -> None:
        self._samplers = samplers
        self._batch = self._drawn(0) if all(sampler.whole for sampler in samplers) else None

    def _drawn(self, step: int) -> PyTree:
        return _stacked([sampler(step) for sampler in self._samplers])

    def __call__(self, step: int) -> PyTree:
        return self._drawn(step) if self._batch is None else self._batch


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray)


def _stacked(trees: Sequence[PyTree]) -> PyTree:
    """Return one tree whose leaves have a leading axis."""
    try:
        chex.assert_trees_all_equal_structs(*trees)
        chex.assert_trees_all_equal_shapes(*trees)  # names the leaf
    except AssertionError as error:
        what = str(error).strip().splitlines()[-1].strip()
        raise ConfigError(
            f"the members (or their samples) differ in structure or shape: {what}"
        ) from error
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *trees)
