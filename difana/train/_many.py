"""Trainings side by side: one epoch after the other, each training with its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from difana._numerics import third_party_promotion
from difana._status import flag
from difana._typing import PyTree
from difana.losses import Step
from difana.train.average import Average, moved
from difana.train.status import TrainStatus
from difana.train.training import Training


class ReplicaRows(NamedTuple):
    """Rows for many trainings; a loss gets some of them as the pair ``(shared, own)``.

    Attributes:
        shared: PyTree of ``[rows, ...]``, which all trainings see.
        own: PyTree of ``[replicas, rows, ...]``, such as weights: those of one replica each.
        level: With it, ``shared`` is ``[levels, rows, ...]`` and a replica sees one of these
            versions of the rows, ``[replicas]``.
    """

    shared: PyTree
    own: PyTree
    level: Int[Array, " replicas"] | None = None

    @property
    def number(self) -> int:
        """Number of rows."""
        return jax.tree.leaves(self.own)[0].shape[1]

    @property
    def axis(self) -> int:
        """Axis of the rows in ``shared``."""
        return 0 if self.level is None else 1

    def take(self, index: Int[Array, " some"]) -> ReplicaRows:
        """Return some rows."""
        shared = jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=self.axis), self.shared)
        return ReplicaRows(shared, jax.tree.map(lambda leaf: leaf[:, index], self.own), self.level)

    def slice(self, start: Array, size: int) -> ReplicaRows:
        """Return consecutive rows."""

        def cut(axis: int) -> Callable[[Array], Array]:
            return lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size, axis=axis)

        return ReplicaRows(
            jax.tree.map(cut(self.axis), self.shared), jax.tree.map(cut(1), self.own), self.level
        )


class Own(NamedTuple):
    """What belongs to the replicas."""

    leaves: PyTree
    rows: PyTree
    held: PyTree
    level: Array | None
    active: Array
    margin: Array


class Task(NamedTuple):
    """What all replicas share and no training changes."""

    loss: Callable
    validate: Callable | None
    static: PyTree
    training: Training
    members: int
    optimizer: Callable | None


class _State(NamedTuple):
    weights: PyTree
    optimizer: PyTree
    best: PyTree
    mean: Average | None
    loss: Array
    base: Array
    mixed: Array
    waited: Array
    epochs: Array
    finite: Array


def train_many(task: Task, own: Own, shared: PyTree, held_shared: PyTree, key: Array) -> tuple:
    """Train the networks of some replicas at once."""
    training, members = task.training, task.members
    rows = ReplicaRows(shared, own.rows, own.level)
    held = ReplicaRows(held_shared, own.held, own.level)
    number = rows.number
    size = training.batch(number)
    steps = number // size
    epochs = training.epochs if training.steps is None else -(-training.steps // steps)
    patience = epochs + 1 if training.patience is None else training.patience
    # 1e-15 inside the root: Adam has a finite derivative where a gradient is exactly zero
    optimizer = optax.adam(training.rate(steps * epochs), eps_root=1e-15)
    if task.optimizer is not None:
        optimizer = task.optimizer(steps * epochs)
    key_order, key_epochs = jax.random.split(key)
    order = jax.random.permutation(key_order, number)
    rows = rows.take(jnp.concatenate([order, order[:size]]))  # a batch may run over the end

    def each(part: Array) -> Array:
        return part if members == 1 else jnp.repeat(part, members, axis=0)

    level = None if own.level is None else each(own.level)
    margin = own.margin.reshape(-1)
    decay = training.average

    def of_each(part: ReplicaRows) -> tuple[PyTree, PyTree]:
        """Return what each training sees, and the axes of the trainings in it."""
        seen = part.shared if level is None else jax.tree.map(lambda leaf: leaf[level], part.shared)
        return seen, jax.tree.map(each, part.own)

    axes = (None if level is None else 0, 0)

    def value(leaves: PyTree, batch: tuple, step: Step) -> Array:
        return task.loss(eqx.combine(leaves, task.static), batch, step)[0]

    def update(leaves: PyTree, state: PyTree, batch: tuple, step: Step) -> tuple[PyTree, PyTree]:
        gradient = jax.grad(value)(leaves, batch, step)
        with third_party_promotion():
            updates, state = optimizer.update(gradient, state, leaves)
        return optax.apply_updates(leaves, updates), state

    def held_out(leaves: PyTree, step: Step) -> Array:
        if task.validate is not None:
            return task.validate(eqx.combine(leaves, task.static), held)
        return jax.vmap(value, in_axes=(0, axes, None))(leaves, of_each(held), step)

    def epoch(state: _State, now: tuple[Array, Array]) -> _State:
        epoch_key, first = now
        key_cut, key_batches = jax.random.split(epoch_key)
        cut = jax.random.randint(key_cut, (), 0, number)
        starts = (cut + size * jax.random.permutation(key_batches, steps)) % number

        def at(index: Array) -> Step:
            return Step.at(index, key=key, steps=steps * epochs)

        def step(carry: tuple, now: tuple[Array, Array]) -> tuple[tuple, None]:
            leaves, moments, mean = carry
            start, index = now
            leaves, moments = jax.vmap(update, in_axes=(0, 0, axes, None))(
                leaves, moments, of_each(rows.slice(start, size)), at(index)
            )
            return (leaves, moments, mean.updated(leaves, decay=decay or 1.0)), None

        begin = Average.start(state.weights) if state.mean is None else state.mean
        (leaves, moments, average), _ = jax.lax.scan(
            step, (state.weights, state.optimizer, begin), (starts, first + jnp.arange(steps))
        )
        mean = average.like(leaves)
        found = held_out(mean, at(first + steps - 1))
        active = state.finite & (state.waited < patience)
        finite = jnp.isfinite(found) & _all_finite(leaves)
        better = active & finite & (found < state.loss)
        fresh = active & finite & (found < state.base - margin)
        near = active & finite & ~fresh & (found < state.loss + margin)
        mixed = jnp.where(fresh, 1, state.mixed + near.astype(jnp.int32))
        best = _where(near, jax.vmap(mix)(state.best, mean, mixed), state.best)
        return _State(
            weights=_where(active & finite, leaves, state.weights),
            optimizer=_where(active & finite, moments, state.optimizer),
            # of a frozen training it is never looked at
            mean=None if decay is None else average,
            best=_where(fresh, mean, best),
            loss=jnp.where(better, found, state.loss),
            base=jnp.where(fresh, found, state.base),
            mixed=mixed,
            waited=jnp.where(active, jnp.where(better, 0, state.waited + 1), state.waited),
            epochs=state.epochs + active.astype(jnp.int32),
            finite=state.finite & (finite | ~active),
        )

    def body(state: _State, now: tuple[Array, Array]) -> tuple[_State, None]:
        busy = jnp.any(state.finite & (state.waited < patience))
        return jax.lax.cond(busy, epoch, lambda state, _: state, state, now), None

    many = jax.tree.leaves(own.leaves)[0].shape[0]
    kind = jax.eval_shape(held_out, own.leaves, Step.at(key=key)).dtype
    zero, infinite = jnp.zeros(many, jnp.int32), jnp.full(many, jnp.inf, kind)
    active = each(own.active)
    waited = jnp.where(active, 0, patience).astype(jnp.int32)
    start = _State(
        own.leaves, jax.vmap(optimizer.init)(own.leaves), own.leaves,
        None if decay is None else Average.start(own.leaves),
        infinite, infinite, zero, waited, zero, jnp.ones(many, bool),
    )  # fmt: skip
    keys = jax.random.split(key_epochs, epochs)
    end, _ = jax.lax.scan(body, start, (keys, steps * jnp.arange(epochs)))
    status = (
        flag(~end.finite, TrainStatus.DIVERGED)
        | flag(active & end.finite & ~jnp.isfinite(end.loss), TrainStatus.NO_METRIC)
        | flag(active & (end.waited >= patience), TrainStatus.STOPPED_EARLY)
    )
    return end.best, end.loss, end.epochs, status


def mix(mean: PyTree, new: PyTree, number: Array) -> PyTree:
    """Return the mean of so many trees, the i-th of weight i.

    Example:
        >>> mean = jnp.asarray(0.0)
        >>> for number in (1, 2, 3):
        ...     mean = mix(mean, jnp.asarray(float(number)), jnp.asarray(number))
        >>> round(float(mean), 4) == round((1 + 4 + 9) / 6, 4)
        True
    """
    return moved(mean, new, share=2 / (number + 1))


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    def choose(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


def _all_finite(stacked: PyTree) -> Array:
    leaves = jax.tree.leaves(stacked)
    return jnp.all(jnp.stack([
        jnp.all(jnp.isfinite(leaf.reshape(len(leaf), -1)), axis=1) for leaf in leaves
    ]), axis=0)  # fmt: skip
