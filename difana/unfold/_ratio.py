"""A log ratio of two densities by a classifier: the half step of OmniFold, for many replicas."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from difana._typing import PyTree
from difana.unfold.settings import Settings


class Rows(NamedTuple):
    """Rows of the two classes; class 1 and class 0 share the rows, each with its own weights.

    With ``level`` a replica looks at ``x[level]``, one of several versions of the rows.
    """

    x: Array
    above: Float[Array, "replicas rows"]
    below: Float[Array, "replicas rows"]
    level: Int[Array, " replicas"] | None = None


class FitReport(NamedTuple):
    """Of each replica: lowest held-out loss of an epoch, epochs trained, all finite."""

    loss: Float[Array, " replicas"]
    epochs: Int[Array, " replicas"]
    finite: Bool[Array, " replicas"]


class _State(NamedTuple):
    weights: PyTree
    optimizer: PyTree
    best: PyTree
    loss: Array
    base: Array
    mixed: Array
    waited: Array
    epochs: Array
    finite: Array


def logits(net: PyTree, x: Array, dtype: jnp.dtype) -> Float[Array, " events"]:
    """Return one number an event; a network of several outputs gives its first."""
    out = net(x.astype(dtype))
    return out[:, 0] if out.ndim == 2 else out


def evaluate(
    weights: PyTree, static: PyTree, x: Array, level: Array | None = None
) -> Float[Array, "nets rows"]:
    """Return the logits of all rows for stacked weights, some thousand rows at a time.

    With ``level`` a network looks at ``x[level]``.
    """
    axis = 0 if level is None else 1
    rows = x.shape[axis]
    size = 8192
    if jax.default_backend() == "cpu":  # what the layers make of them should stay in its cache
        size = max(64, 2048 // len(jax.tree.leaves(weights)[0]))
    size = min(size, rows)
    chunks = -(-rows // size)
    padding = [(0, chunks * size - rows if k == axis else 0) for k in range(x.ndim)]
    padded = jnp.pad(x, padding).reshape(*x.shape[:axis], chunks, size, *x.shape[axis + 1 :])

    def one(part: Array) -> Array:
        part, mapped = (part, None) if level is None else (part[level], 0)
        run = lambda w, now: logits(eqx.combine(w, static), now, x.dtype)  # noqa: E731
        return jax.vmap(run, in_axes=(0, mapped))(weights, part)

    out = jax.lax.map(one, jnp.moveaxis(padded, axis, 0))
    return jnp.moveaxis(out, 0, 1).reshape(out.shape[1], -1)[:, :rows]


def log_mean(logit: Float[Array, "nets rows"], ensemble: int) -> Float[Array, "replicas rows"]:
    """Return the logarithm of the mean ratio of the networks of each replica."""
    if ensemble == 1:
        return logit
    members = logit.reshape(-1, ensemble, logit.shape[1])
    return jax.nn.logsumexp(members, axis=1) - jnp.log(jnp.asarray(ensemble, logit.dtype))


def binary_loss(logit: Array, above: Array, below: Array) -> Array:
    r"""Return :math:`\sum w_1 \log(1 + e^{-f}) + w_0 \log(1 + e^f)`."""
    return jnp.sum(above * jax.nn.softplus(-logit) + below * jax.nn.softplus(logit))


def fit_ratio(
    weights: PyTree,
    static: PyTree,
    train: Rows,
    held: Rows,
    settings: Settings,
    *,
    active: Bool[Array, " replicas"],
    key: Array,
) -> tuple[PyTree, FitReport]:
    """Train stacked classifiers; return the mean weights over the best epochs of each.

    There are ``settings.ensemble`` classifiers a replica, one after the other on the leading axis.
    So many replicas as ``settings.lanes`` says are trained at a time; the result does not depend
    on it.
    One epoch goes once over the rows, in an order all replicas share, drawn anew at each call; from
    epoch to epoch the batches change order and cut. A classifier that did not improve on the held-
    out rows for ``patience`` epochs is frozen; when all are, the remaining epochs cost nothing.
    Replicas that are not active are frozen from the start.

    Epochs whose held-out losses agree within the noise of the held-out rows are averaged, later
    ones more. The best of them alone would be the one whose noise fits the held-out rows, with the
    statistical error of these few.
    """
    count = len(train.above)
    at_once = settings.at_once(count, _bytes(weights) // count)
    if at_once == count:
        return _fit(weights, static, train, held, settings, active=active, key=key)

    def group(part: tuple[PyTree, Rows, Rows, Array]) -> tuple[PyTree, FitReport]:
        leaves, one, two, busy = part
        one, two = one._replace(x=train.x), two._replace(x=held.x)
        return _fit(leaves, static, one, two, settings, active=busy, key=key)

    own = (weights, train._replace(x=None), held._replace(x=None), active)
    groups = jax.tree.map(lambda a: a.reshape(count // at_once, -1, *a.shape[1:]), own)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), jax.lax.map(group, groups))


def _fit(
    weights: PyTree, static: PyTree, train: Rows, held: Rows, settings: Settings, *,
    active: Array, key: Array,
) -> tuple[PyTree, FitReport]:  # fmt: skip
    """Train the classifiers of some replicas at once."""
    rows, dtype, members = train.above.shape[1], train.x.dtype, settings.ensemble
    size = settings.batch(rows)
    steps = rows // size
    optimizer = settings.optimizer(steps * settings.epochs)
    total = [jnp.sum(t, axis=1) + jnp.sum(h, axis=1)
             for t, h in ((train.above, held.above), (train.below, held.below))]  # fmt: skip
    scale = [rows / part[:, None] for part in total]
    key_order, key_epochs = jax.random.split(key)
    order = jax.random.permutation(key_order, rows)
    order = jnp.concatenate([order, order[:size]])  # a batch may run over the end
    axis, mapped = (0, None) if train.level is None else (1, 0)
    x = jnp.take(train.x, order, axis=axis)
    above = (train.above * scale[0])[:, order].astype(dtype)
    below = (train.below * scale[1])[:, order].astype(dtype)
    held_above = (held.above / total[0][:, None]).astype(dtype)
    held_below = (held.below / total[1][:, None]).astype(dtype)

    def each(part: Array) -> Array:
        return part if members == 1 else jnp.repeat(part, members, axis=0)

    # two units of log likelihood: less is the noise of the held-out rows
    margin = each(_typical(held_above) + _typical(held_below))
    shares = (1 / jnp.arange(1, steps + 1)).astype(dtype)

    level = None if train.level is None else each(train.level)

    def loss(leaves: PyTree, part: Array, one: Array, zero: Array) -> Array:
        net = eqx.combine(leaves, static)
        return binary_loss(logits(net, part, dtype), one, zero) / size

    def update(leaves: PyTree, state: PyTree, *batch: Array) -> tuple[PyTree, PyTree]:
        gradient = jax.grad(loss)(leaves, *batch)
        updates, state = optimizer.update(gradient, state, leaves)
        return optax.apply_updates(leaves, updates), state

    def epoch(state: _State, epoch_key: Array) -> _State:
        key_cut, key_batches = jax.random.split(epoch_key)
        cut = jax.random.randint(key_cut, (), 0, rows)
        starts = (cut + size * jax.random.permutation(key_batches, steps)) % rows

        def step(carry: tuple, now: tuple[Array, Array]) -> tuple[tuple, None]:
            leaves, moments, mean = carry
            start, share = now
            part = jax.lax.dynamic_slice_in_dim(x, start, size, axis=axis)
            part = part if level is None else part[level]
            one = each(jax.lax.dynamic_slice_in_dim(above, start, size, axis=1))
            zero = each(jax.lax.dynamic_slice_in_dim(below, start, size, axis=1))
            leaves, moments = jax.vmap(update, in_axes=(0, 0, mapped, 0, 0))(
                leaves, moments, part, one, zero
            )
            mean = jax.tree.map(lambda a, b: a + share * (b - a), mean, leaves)
            return (leaves, moments, mean), None

        # the mean over the epoch is free of the noise of the batches
        (leaves, moments, mean), _ = jax.lax.scan(
            step, (state.weights, state.optimizer, state.weights), (starts, shares)
        )
        test = evaluate(mean, static, held.x, level)
        value = jax.vmap(binary_loss)(test, each(held_above), each(held_below))
        active = state.finite & (state.waited < settings.patience)
        finite = jnp.isfinite(value) & _all_finite(leaves)
        better = active & finite & (value < state.loss)
        fresh = active & finite & (value < state.base - margin)
        near = active & finite & ~fresh & (value < state.loss + margin)
        mixed = jnp.where(fresh, 1, state.mixed + near)
        best = _where(near, jax.vmap(_mix)(state.best, mean, mixed), state.best)
        return _State(
            weights=_where(active & finite, leaves, state.weights),
            optimizer=_where(active & finite, moments, state.optimizer),
            best=_where(fresh, mean, best),
            loss=jnp.where(better, value, state.loss),
            base=jnp.where(fresh, value, state.base),
            mixed=mixed,
            waited=jnp.where(active, jnp.where(better, 0, state.waited + 1), state.waited),
            epochs=state.epochs + active,
            finite=state.finite & (finite | ~active),
        )

    def body(state: _State, epoch_key: Array) -> tuple[_State, None]:
        busy = jnp.any(state.finite & (state.waited < settings.patience))
        return jax.lax.cond(busy, epoch, lambda state, _: state, state, epoch_key), None

    nets = len(train.above) * members
    zero = jnp.zeros(nets, jnp.int32)
    infinite = jnp.full(nets, jnp.inf, dtype)
    waited = jnp.where(each(active), 0, settings.patience).astype(jnp.int32)
    start = _State(
        weights, jax.vmap(optimizer.init)(weights), weights,
        infinite, infinite, zero, waited, zero, jnp.ones(nets, bool),
    )  # fmt: skip
    end, _ = jax.lax.scan(body, start, jax.random.split(key_epochs, settings.epochs))
    finite = end.finite & (jnp.isfinite(end.loss) | ~each(active))
    report = FitReport(end.loss, end.epochs, finite)
    return end.best, _by_replica(report, members)


def _mix(mean: PyTree, new: PyTree, number: Array) -> PyTree:
    """Return the mean of so many, the i-th of weight i."""
    share = 2 / (number + 1)
    return jax.tree.map(lambda a, b: a + share.astype(a.dtype) * (b - a), mean, new)


def _typical(weights: Array) -> Array:
    """Return the weight of a typical row of each replica."""
    total = jnp.abs(jnp.sum(weights, axis=1))
    return jnp.sum(weights**2, axis=1) / jnp.maximum(total, jnp.finfo(weights.dtype).tiny)


def _by_replica(report: FitReport, members: int) -> FitReport:
    loss, epochs, finite = (part.reshape(-1, members) for part in report)
    return FitReport(jnp.mean(loss, axis=1), jnp.max(epochs, axis=1), jnp.all(finite, axis=1))


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    def choose(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


def _all_finite(stacked: PyTree) -> Array:
    leaves = jax.tree.leaves(stacked)
    return jnp.all(jnp.stack([
        jnp.all(jnp.isfinite(leaf.reshape(len(leaf), -1)), axis=1) for leaf in leaves
    ]), axis=0)  # fmt: skip


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
