"""Classifiers of two weighted classes, for many replicas at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from difana._status import trustworthy
from difana._typing import PyTree
from difana.losses import Step
from difana.ratio.stacked import evaluate, logits
from difana.train import ReplicaRows, Training, TrainStatus, compiled


class Classes(NamedTuple):
    """Rows of two classes: both share the rows, each has its own weights.

    With ``level`` a replica looks at ``x[level]``, one of several versions of the rows.

    Attributes:
        x: Rows, ``[rows, ...]`` (or a PyTree of such arrays).
        above: Weights of class 1, the numerator of the ratio.
        below: Weights of class 0.
        level: Version of the rows of each replica; ``x`` then is ``[levels, rows, ...]``.
    """

    x: PyTree
    above: Float[Array, "replicas rows"]
    below: Float[Array, "replicas rows"]
    level: Int[Array, " replicas"] | None = None


class ClassifyReport(NamedTuple):
    """Of each replica: lowest held-out loss of an epoch, epochs trained, bits of `TrainStatus`."""

    loss: Float[Array, " replicas"]
    epochs: Int[Array, " replicas"]
    status: Int[Array, " replicas"]

    @property
    def finite(self) -> Bool[Array, " replicas"]:
        """False where a number was not finite."""
        return trustworthy(self.status, TrainStatus)


def binary_loss(logit: Array, above: Array, below: Array) -> Array:
    r"""Return :math:`\sum w_1 \log(1 + e^{-f}) + w_0 \log(1 + e^f)`."""
    return jnp.sum(above * jax.nn.softplus(-logit) + below * jax.nn.softplus(logit))


def classify(
    nets: PyTree,
    train: Classes,
    held: Classes,
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    active: Bool[Array, " replicas"] | None = None,
    members: int = 1,
    chunk: int | None = None,
) -> tuple[PyTree, ClassifyReport]:
    r"""Train stacked classifiers whose logit is the log ratio of the two densities.

    .. math::
        L = \sum_i w_{1i} \log(1 + e^{-f(x_i)}) + w_{0i} \log(1 + e^{f(x_i)})

    with the weights of each class divided by their total over both parts, so that :math:`f` is a
    ratio of normalised densities. Negative weights are taken as they are. Two units of the log
    likelihood of the held-out rows count as their noise. See ``difana.train.compiled``.

    Args:
        nets: Stacked networks, ``members`` a replica, see ``stacked_nets``.
        train: Rows of the training.
        held: Held-out rows.
        key: Random key of the order of the rows.
        training: Options of the training.
        active: Replicas that are not active keep their weights; None means that all are.
        members: Classifiers of each replica.
        chunk: Replicas trained side by side.

    Returns:
        The trained networks, and the report.
    """
    dtype = jnp.result_type(*jax.tree.leaves(train.x))
    rows = train.above.shape[1]
    total = [jnp.sum(t, axis=1) + jnp.sum(h, axis=1)
             for t, h in ((train.above, held.above), (train.below, held.below))]  # fmt: skip
    scaled = [(weights * (rows / part[:, None])).astype(dtype)
              for weights, part in zip((train.above, train.below), total, strict=True)]  # fmt: skip
    tested = [(weights / part[:, None]).astype(dtype)
              for weights, part in zip((held.above, held.below), total, strict=True)]  # fmt: skip

    def each(part: Array) -> Array:
        return part if members == 1 else jnp.repeat(part, members, axis=0)

    def loss(net: PyTree, batch: tuple, step: Step) -> tuple[Array, dict]:
        x, (above, below) = batch
        return binary_loss(logits(net, x), above, below) / len(above), {}

    def validate(nets: PyTree, held: ReplicaRows) -> Array:
        test = evaluate(nets, held.shared, None if held.level is None else each(held.level))
        return jax.vmap(binary_loss)(test, *map(each, held.own))

    # two units of log likelihood: less is the noise of the held-out rows
    margin = each(_typical(tested[0]) + _typical(tested[1]))
    found = compiled(
        loss, nets, ReplicaRows(train.x, tuple(scaled), train.level), key=key, training=training,
        held=ReplicaRows(held.x, tuple(tested), held.level), validate=validate, margin=margin,
        active=active, members=members, chunk=chunk,
    )  # fmt: skip
    value, epochs, status = (
        part.reshape(-1, members) for part in (found.loss, found.epochs, found.status)
    )
    return found.trainable, ClassifyReport(
        jnp.mean(value, axis=1), jnp.max(epochs, axis=1), jnp.bitwise_or.reduce(status, axis=1)
    )


def _typical(weights: Array) -> Array:
    """Return the weight of a typical row of each replica."""
    total = jnp.abs(jnp.sum(weights, axis=1))
    return jnp.sum(weights**2, axis=1) / jnp.maximum(total, jnp.finfo(weights.dtype).tiny)
