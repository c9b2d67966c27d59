"""Flows of many replicas of the events, trained in one program."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError, ModelError
from difana._typing import PyTree
from difana.flows.spline_flow import SplineFlow
from difana.nn import MLP
from difana.train import ReplicaRows, Step, Training, compiled

_ROWS = 4096  # events whose density is computed at once


class FlowReplicas(eqx.Module):
    """Conditional densities of many replicas; made by ``fit_flow_replicas``.

    Attributes:
        flow: A flow whose conditioners have a leading axis of replicas.
    """

    flow: SplineFlow

    def log_prob(
        self, x: Float[Array, "events dims"], given: Float[Array, "events given"]
    ) -> Float[Array, "replicas events"]:
        r"""Return :math:`\ln p(x \mid c)` of each event, by the flow of each replica."""
        return _log_prob(self.flow, jnp.asarray(x), jnp.asarray(given))


def fit_flow_replicas(
    flow: SplineFlow,
    x: Float[Array, "events dims"],
    given: Float[Array, "events context"],
    weights: Float[Array, "replicas events"],
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    chunk: int | None = None,
) -> FlowReplicas:
    r"""Return flows of the events with the weights of each replica.

    Each maximises the likelihood of ``fit_flow`` from conditioners of its own; all are trained in
    one program, with early stopping of their own (``difana.train.compiled``). Of a flow with
    columns that are not learned, or shared values, only the learned part differs.

    Args:
        flow: Flow whose standardisation, layers and widths are taken.
        x: Values, ``[events, dims]``, near zero: in single precision.
        given: Contexts, ``[events, context]``.
        weights: Weights of the events in each replica; their scale does not matter.
        key: Random key of the conditioners, the split and the batches.
        training: Options of the training.
        chunk: Replicas trained side by side; the result does not depend on it.

    Raises:
        InputError: If the numbers of events differ, or a replica has no positive total weight.
        ModelError: If a training meets a number that is not finite.
    """
    w = jnp.asarray(weights)
    if w.ndim != 2 or not len(x) == len(given) == w.shape[1]:
        raise InputError(
            f"{len(x)} rows of x, {len(given)} of the context and weights of shape {w.shape}: give"
            " [replicas, events] for the same events"
        )
    if not bool(jnp.all(jnp.sum(w, axis=1) > 0)):
        raise InputError("the weights of a replica have no positive total")
    key_nets, key_split, key_run = jax.random.split(key, 3)
    nets = jax.vmap(lambda one: _fresh(flow, one))(jax.random.split(key_nets, len(w)))
    _, static = eqx.partition(flow.nets, eqx.is_array)
    stacked = eqx.tree_at(lambda f: f.nets, flow, eqx.combine(nets, static))
    order = jax.random.permutation(key_split, len(x))
    some = max(1, round(training.held_out * len(x)))
    columns = tuple(jnp.asarray(part, jnp.float32) for part in (x, given))
    share = (w / jnp.mean(w, axis=1, keepdims=True)).astype(jnp.float32)
    rows = ReplicaRows(columns, share)
    found = _program(stacked, rows.take(order[some:]), rows.take(order[:some]), key_run, training,
                     chunk)  # fmt: skip
    if not found.ok:
        raise ModelError(
            "the flow of a replica met a number that is not finite: lower learning_rate"
        )
    return FlowReplicas(found.trainable)


@eqx.filter_jit
def _program(
    stacked: SplineFlow, rows: ReplicaRows, held: ReplicaRows, key: Array, training: Training,
    chunk: int | None,
) -> Any:  # fmt: skip
    w = held.own
    # two units of log likelihood: less is the noise of the held-out rows
    margin = 2 * jnp.sum(w**2, axis=1) / jnp.sum(w, axis=1) ** 2
    return compiled(
        _loss, stacked, rows, key=key, training=training, held=held, margin=margin, chunk=chunk,
        trained=stacked.trained(), optimizer=lambda steps: optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(training.rate(steps))
        ),
    )  # fmt: skip


def _loss(flow: SplineFlow, batch: tuple, step: Step) -> tuple[Array, dict]:
    (x, given), w = batch
    # fluctuations of the total weight of a batch are no part of the loss
    return -jnp.sum(w * flow.log_prob(x, given)) / jnp.maximum(jnp.sum(w), 1e-3), {}


def _fresh(flow: SplineFlow, key: Array) -> PyTree:
    """Return new conditioners of the sizes of a flow; an identity, as at the start of any flow."""
    kernels = [layer.kernel[...] for layer in flow.nets.layers]
    widths = [kernel.shape[1] for kernel in kernels]

    def layer(one: Array) -> PyTree:
        net = MLP(widths[0], widths[1:], kernels[-1].shape[2], activation="silu", key=one)
        net.layers[-1].kernel[...] = jnp.zeros_like(net.layers[-1].kernel[...])
        return eqx.filter(net, eqx.is_array)

    return jax.vmap(layer)(jax.random.split(key, len(kernels[0])))


@eqx.filter_jit
def _log_prob(flow: SplineFlow, x: Array, given: Array) -> Array:
    size = min(_ROWS, len(x))
    chunks = -(-len(x) // size)

    def cut(rows: Array) -> Array:
        padded = jnp.pad(rows, [(0, chunks * size - len(rows)), (0, 0)])
        return padded.reshape(chunks, size, -1)

    leaves, static = eqx.partition(flow, flow.trained())

    def one(own: PyTree) -> Array:
        whole = eqx.combine(own, static)
        found = jax.lax.map(lambda part: whole.log_prob(*part), (cut(x), cut(given)))
        return found.reshape(-1)[: len(x)]

    return jax.lax.map(one, leaves)
