"""Many trainings in one program: scanned over the steps, mapped over the replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from difana._errors import ConfigError, InputError
from difana._numerics import traced
from difana._options import whole_number
from difana._result import AbstractResult
from difana._typing import PyTree
from difana.losses import Step
from difana.nn import trainable
from difana.train._many import Own, ReplicaRows, Task, train_many
from difana.train.spread import spread
from difana.train.status import TrainStatus
from difana.train.training import Training

_CACHE = 2**21  # bytes


class CompiledResult(AbstractResult):
    """What many trainings found.

    Attributes:
        trainable: The stacked trainable with the weights of the best epochs.
        loss: Lowest held-out loss of an epoch, ``[trainings]``.
        epochs: Epochs trained, ``[trainings]``.
        status: Bits of `TrainStatus`, ``[trainings]``; where one diverged, at a number that is not
            finite, the last good weights are kept.
    """

    bits = TrainStatus

    trainable: PyTree
    loss: Float[Array, " trainings"]
    epochs: Int[Array, " trainings"]
    status: Int[Array, " trainings"]


def compiled(
    loss: Callable[[PyTree, tuple, Step], tuple[Float[Array, ""], Any]],
    stacked: PyTree,
    rows: ReplicaRows,
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    optimizer: Callable[[int], optax.GradientTransformation] | None = None,
    held: ReplicaRows | None = None,
    validate: Callable[[PyTree, ReplicaRows], Float[Array, " trainings"]] | None = None,
    margin: Float[ArrayLike, "..."] = 0.0,
    active: Bool[Array, " replicas"] | None = None,
    members: int = 1,
    chunk: int | None = None,
    devices: Sequence[Any] | None = None,
    trained: PyTree = None,
) -> CompiledResult:
    """Train many networks in one program, each with its own early stopping.

    An epoch goes once over the rows, in an order that all trainings share; from epoch to epoch the
    batches change order and cut. What counts is the mean of the weights over an epoch, which is
    free of the noise of the batches. A training that did not improve on the held-out rows for
    ``training.patience`` epochs is frozen; when all are, the remaining epochs cost nothing.

    Epochs whose held-out losses agree within ``margin`` are averaged, later ones more. The best of
    them alone would be the one whose noise fits the held-out rows, with the statistical error of
    these few.

    Args:
        loss: ``loss(trainable, (shared, own), step) -> (scalar, aux)``, for one training.
        stacked: Trainables: their trained leaves have a leading axis of replicas times
            ``members``, all others are shared.
        rows: The rows, see ``ReplicaRows``.
        key: Random key of the order of the rows.
        training: Options. ``steps`` are rounded up to whole epochs; with ``average`` the
            exponential average of the weights is what counts, without it their mean over an epoch.
        optimizer: Function of the number of steps, instead of Adam.
        held: Held-out rows; None takes the fraction ``training.held_out`` of the rows.
        validate: Held-out loss of all trainings, given the stacked trainables and ``held``; None
            takes ``loss``.
        margin: Difference of held-out losses that is noise, of all or of each training.
        active: Replicas that are not active keep their weights; None means that all are.
        members: Trainings of each replica, one after the other on the leading axis.
        chunk: Largest number of replicas side by side, the others after them; the result does not
            depend on it. None: all on an accelerator, as many as fit the cache on a CPU.
        devices: Devices over which the replicas are spread.
        trained: Mask of the trained leaves; None takes ``nn.trainable(stacked)``.

    Returns:
        The result. Differentiation: forward and reverse mode through the training.

    Raises:
        ConfigError: If an option has no meaning, or nothing is trained.
        InputError: If rows and trainings do not fit.

    Example:
        Two centres of the same rows, with weights of their own:

        >>> x = jnp.arange(101.0)
        >>> rows = ReplicaRows(x, jnp.stack([jnp.ones(101), x]))
        >>> def squares(centre, batch, step):
        ...     x, w = batch
        ...     return jnp.mean(w * (x - centre) ** 2) / 100, {}
        >>> found = compiled(
        ...     squares, jnp.zeros(2), rows, key=jax.random.key(0),
        ...     held=rows,
        ...     training=Training(epochs=200, batch_size=101, learning_rate=2.0, patience=None),
        ... )
        >>> [round(float(centre)) for centre in found.trainable]
        [50, 67]
    """
    mask = trainable(stacked) if trained is None else trained
    leaves, static = eqx.partition(stacked, mask)
    if not jax.tree.leaves(leaves):
        raise ConfigError("nothing to train: the trainables have no floating-point array.")
    members = whole_number("members", members)
    chunk = None if chunk is None else whole_number("chunk", chunk)
    replicas = {leaf.shape[0] for leaf in jax.tree.leaves(rows.own)}
    numbers = {leaf.shape[0] for leaf in jax.tree.leaves(leaves)}
    if len(replicas) != 1 or numbers != {members * min(replicas)}:
        raise InputError(
            f"{sorted(numbers)} stacked networks, {members} a replica, for own rows of"
            f" {sorted(replicas)} replicas: give networks for each replica"
        )
    count = min(replicas)
    if held is None:
        key, key_split = jax.random.split(key)
        order = jax.random.permutation(key_split, rows.number)
        some = max(1, round(training.held_out * rows.number))
        rows, held = rows.take(order[some:]), rows.take(order[:some])
    own = Own(
        leaves, rows.own, held.own, rows.level,
        jnp.ones(count, bool) if active is None else active,
        jnp.broadcast_to(margin, (count * members,)).reshape(count, members),
    )  # fmt: skip
    task = Task(loss, validate, static, training, members, optimizer)
    shared = rows.shared, held.shared, key
    run = _chunks if traced(own, shared) else _program
    best, *report = run(task, own, shared, chunk=chunk, devices=devices)
    return CompiledResult(eqx.combine(best, static), *report)


def side_by_side(replicas: int, size: int, *, chunk: int | None = None) -> int:
    """Return how many replicas are trained at once: a divisor of their number.

    By default all on an accelerator. On a CPU as many as its cache holds, with gradient, two
    moments and mean: one after the other is faster than all of them through the memory.

    Args:
        replicas: Their number.
        size: Bytes of the weights of one.
        chunk: At most so many.
    """
    most = replicas if jax.default_backend() != "cpu" else max(1, _CACHE // (5 * size))
    most = min(most, replicas if chunk is None else chunk, replicas)
    return max(k for k in range(1, most + 1) if replicas % k == 0)


def _chunks(
    task: Task, own: Own, shared: tuple, *, chunk: int | None, devices: Sequence[Any] | None
) -> tuple:
    """Train all replicas, so many at once as is good for the memory."""
    if devices is not None:
        return spread(
            lambda own, shared: _chunks(task, own, shared, chunk=chunk, devices=None),
            own, shared, devices=devices,
        )  # fmt: skip
    count = len(own.active)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(own.leaves))
    at_once = side_by_side(count, size // count, chunk=chunk)
    if at_once == count:
        return train_many(task, own, *shared)
    groups = jax.tree.map(lambda leaf: leaf.reshape(count // at_once, -1, *leaf.shape[1:]), own)
    found = jax.lax.map(lambda part: train_many(task, part, *shared), groups)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)


_program = eqx.filter_jit(_chunks)
