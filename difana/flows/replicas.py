"""Flows of many replicas of the events, trained in one program."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError, ModelError
from difana.flows.fit import checked_rows, clipped, mapped_rows
from difana.flows.flow import Flow
from difana.flows.protocol import AbstractFlow
from difana.train import ReplicaRows, Step, Training, compiled


class FlowReplicas(AbstractFlow):
    """Many flows of the same columns; made by ``fit_flow_replicas``. Their mixture is a density.

    Attributes:
        flow: A flow whose trained leaves have a leading axis of replicas.
    """

    flow: Flow

    @property
    def number(self) -> int:
        """Number of replicas."""
        return len(jax.tree.leaves(eqx.filter(self.flow, self.flow.trained()))[0])

    def log_prob(
        self, x: Float[Array, "events dims"], given: Any = None
    ) -> Float[Array, " events"]:
        r"""Return the logarithm of the mean density of the replicas."""
        logs = self.each(x, given)
        return jax.nn.logsumexp(logs, axis=0) - jnp.log(jnp.asarray(len(logs), logs.dtype))

    def each(
        self, x: Float[Array, "events dims"], given: Any = None
    ) -> Float[Array, "replicas events"]:
        r"""Return :math:`\ln p(x \mid c)` by each replica: the spread is an error."""
        return _log_prob(self.flow, x, given)

    def one(self, replica: int) -> Flow:
        """Return one of the flows."""
        own, shared = eqx.partition(self.flow, self.flow.trained())
        return eqx.combine(jax.tree.map(lambda leaf: leaf[replica], own), shared)

    def sample(
        self, given: Any = None, *, key: PRNGKeyArray, samples: int = 1
    ) -> Float[Array, "*rows dims"]:
        """Return draws of the mixture: each draw is of a replica drawn for it."""
        key_pick, key_draw = jax.random.split(key)
        drawn = _samples(self.flow, given, key_draw, samples)
        pick = jax.random.randint(key_pick, drawn.shape[1:-1], 0, self.number)
        return jnp.take_along_axis(drawn, pick[None, ..., None], axis=0)[0]


def fit_flow_replicas(
    flow: Flow,
    x: Float[Array, "events dims"],
    given: Any,
    weights: Float[Array, "replicas events"],
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    chunk: int | None = None,
) -> FlowReplicas:
    r"""Return flows of the events with the weights of each replica.

    Each minimises the loss of ``fit_flow`` from layers of its own; all are trained in one program,
    with early stopping of their own (``difana.train.compiled``). Columns and condition are mapped
    alike. Equal weights make an ensemble, whose spread is the error of the training.

    Args:
        flow: Flow whose constants, layers and widths are taken.
        x: Values, ``[events, dims]``.
        given: Contexts, as the flow was made for; None for a flow without any.
        weights: Weights of the events in each replica; their scale does not matter.
        key: Random key of the layers, the split and the batches.
        training: Options of the training.
        chunk: Replicas trained side by side; the result does not depend on it.

    Raises:
        InputError: If the numbers of events differ, or a replica has no positive total weight.
        ModelError: If a training meets a number that is not finite.
    """
    w = jnp.asarray(weights)
    values, context, _ = checked_rows(x, given, None)
    if w.ndim != 2 or len(values) != w.shape[1]:
        raise InputError(
            f"{len(values)} rows of x and weights of shape {w.shape}: give [replicas, events] for"
            " the same events"
        )
    if not bool(jnp.all(jnp.sum(w, axis=1) > 0)):
        raise InputError("the weights of a replica have no positive total")
    key_nets, key_split, key_run = jax.random.split(key, 3)
    columns, _ = mapped_rows(flow, values, context, key)
    stacked = _fresh(flow, jax.random.split(key_nets, len(w)))
    order = jax.random.permutation(key_split, len(values))
    some = max(1, round(training.held_out * len(values)))
    share = (w / jnp.mean(w, axis=1, keepdims=True)).astype(jnp.float32)
    rows = ReplicaRows(columns, share)
    found = _program(stacked, rows.take(order[some:]), rows.take(order[:some]), key_run, training,
                     chunk)  # fmt: skip
    if not found.ok:
        raise ModelError(
            "the flow of a replica met a number that is not finite: lower learning_rate"
        )
    return FlowReplicas(found.trainable)


def _fresh(flow: Flow, keys: Array) -> Flow:
    """Return the flow with a leading axis of new layers; a summary network starts as it is."""
    own, shared = eqx.partition(flow, flow.trained())
    bodies = jax.vmap(lambda key: eqx.filter(flow.body.fresh(key), eqx.is_inexact_array))(keys)
    own = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), own)
    return eqx.combine(eqx.tree_at(lambda f: f.body, own, bodies), shared)


@eqx.filter_jit
def _program(
    stacked: Flow, rows: ReplicaRows, held: ReplicaRows, key: Array, training: Training,
    chunk: int | None,
) -> Any:  # fmt: skip
    w = held.own
    # two units of log likelihood: less is the noise of the held-out rows
    margin = 2 * jnp.sum(w**2, axis=1) / jnp.sum(w, axis=1) ** 2
    return compiled(
        _loss, stacked, rows, key=key, training=training, held=held, margin=margin, chunk=chunk,
        trained=stacked.trained(), optimizer=lambda steps: clipped(
            optax.adam(training.rate(steps))
        ),
    )  # fmt: skip


def _loss(flow: Flow, batch: tuple, step: Step) -> tuple[Array, dict]:
    (values, prepared), w = batch
    # fluctuations of the total weight of a batch are no part of the loss
    losses = flow.losses(values, prepared, step.key)
    return jnp.sum(w * losses) / jnp.maximum(jnp.sum(w), 1e-3), {}


@eqx.filter_jit
def _log_prob(flow: Flow, x: Any, given: Any) -> Array:
    own, shared = eqx.partition(flow, flow.trained())
    return jax.lax.map(lambda one: eqx.combine(one, shared).log_prob(x, given), own)


@eqx.filter_jit
def _samples(flow: Flow, given: Any, key: Array, samples: int) -> Array:
    own, shared = eqx.partition(flow, flow.trained())
    return jax.lax.map(
        lambda one: eqx.combine(one, shared).sample(given, key=key, samples=samples), own
    )
