"""Training of a flow."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._typing import PyTree
from difana.data import Inputs
from difana.flows.columns import refuse_outside
from difana.flows.flow import Flow
from difana.train import AbstractOneTraining, Step, Training, TrainResult, Weighted, train_rows

_LEAST = -30.0  # log density below which events of negative weight count no more


class FlowResult(AbstractOneTraining):
    r"""A trained flow.

    Attributes:
        flow: The flow at its lowest held-out loss.
        loss: That loss: the weighted mean of :math:`-\ln p`, of a continuous flow that of flow
            matching.
        training: The record of the training.
    """

    flow: Flow
    loss: Float[Array, ""]
    training: TrainResult


def fit_flow(
    flow: Flow,
    x: Float[Array, "events dims"],
    given: Any = None,
    *,
    key: PRNGKeyArray,
    weights: Float[Array, " events"] | None = None,
    training: Training = Training(),
    checkpoint: str | os.PathLike[str] | None = None,
    progress_bar: bool = False,
) -> FlowResult:
    r"""Return the flow that maximises the likelihood of the events.

    .. math::
        L = -\frac{\sum_i w_i \ln p(x_i \mid c_i)}{\sum_i w_i}

    (for a continuous flow the loss of flow matching) by Adam with clipped gradients
    (``difana.train.train_rows``), the state of the lowest held-out loss kept. Columns are mapped
    once, in double precision; the layers compute in single precision. Weights may be negative:
    their sum over a batch is not divided by, and a density below ``exp(-30)`` of standardised
    columns does not lower the loss further.

    Args:
        flow: Where to start, e.g. from ``coupling_flow``.
        x: Values, ``[events, dims]``.
        given: Contexts, as the flow was made for.
        key: Random key of split and batches.
        weights: Weights of the events; their total must be positive, their scale does not matter.
        training: Epochs, batch size, learning rate, ...
        checkpoint: Folder of the checkpoints: an interrupted training continues there.
        progress_bar: Show a bar.

    Returns:
        The trained flow.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: If shapes differ, numbers are not finite or outside the range of their column,
            the total weight is not positive or there are fewer than two events.

    Example:
        >>> import jax
        >>> x = jnp.linspace(-1, 1, 8)[:, None]
        >>> fit_flow(None, x, x[:4], key=jax.random.key(0))
        Traceback (most recent call last):
        difana._errors.InputError: 8 rows of x, 4 of the context and 8 weights: ...
    """
    values, context, w = checked_rows(x, given, weights)
    rows, constant = mapped_rows(flow, values, context, key)
    share = float(w.sum() / np.abs(w).sum())
    signed = bool((w < 0).any())
    found = train_rows(
        lambda flow, batch, step: _loss(flow, batch, step, share, signed=signed),
        flow,
        rows,
        key=key,
        weights=w.astype(np.float32),
        training=training,
        transform=clipped,
        trained=flow.trained(),
        checkpoint=checkpoint,
        stage="flow",
        progress_bar=progress_bar,
    )
    loss = jnp.asarray(found.best_metric)
    if hasattr(flow.body, "recipe"):  # a likelihood: that of the columns as they were given
        loss = loss - jnp.asarray(np.average(constant, weights=w), loss.dtype)
    return FlowResult(found.trainable, loss, found)


def clipped(adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the optimizer behind gradients of norm one at most."""
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def mapped_rows(
    flow: Flow, x: np.ndarray, given: Any, key: PRNGKeyArray
) -> tuple[tuple[Array, PyTree], np.ndarray]:
    """Return rows as the layers see them, in single precision, and the log slopes of the map."""
    dims = len(flow.columns.kinds)
    if x.shape[1] != dims:
        raise InputError(f"x has shape {x.shape}, the flow {dims} columns")
    refuse_outside(x, flow.columns.kinds, flow.columns.names)
    seed = np.asarray(jax.random.key_data(jax.random.fold_in(key, 1))).astype(np.uint32)
    x = flow.columns.smeared(x, np.random.default_rng(seed.tolist()))
    constants = _in_numpy(flow)
    values, slopes = constants.columns.forward(x)
    prepared = constants.context.prepared(given, len(x))
    narrow = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if leaf.dtype.kind == "f" else leaf,
        (values, prepared),
    )
    return narrow, np.asarray(slopes, np.float64)


def _in_numpy(flow: Flow) -> Flow:
    """Return the flow with constants of NumPy, of which columns are mapped in double precision."""

    def constant(leaf: Any) -> Any:
        return np.asarray(leaf, np.float64) if isinstance(leaf, jax.Array) else leaf

    columns = jax.tree.map(constant, flow.columns)
    return dataclasses.replace(flow, columns=columns, context=flow.context.in_numpy())


def checked_rows(x: Any, given: Any, weights: Any) -> tuple[np.ndarray, Any, np.ndarray]:
    """Return values, contexts and weights of mean one in modulus, all in float64.

    Raises:
        InputError: See ``fit_flow``.
    """
    particles = isinstance(given, Inputs)
    parts = {"x": x, "weights": weights} | ({} if particles else {"the context": given})
    for name, values in parts.items():
        if values is not None and np.iscomplexobj(values):
            raise InputError(f"{name}: complex numbers; give real ones")
    x = np.asarray(x, np.float64)
    context = given
    if not particles:
        context = np.zeros((len(x), 0)) if given is None else np.asarray(given, np.float64)
    number = len(given.mask) if particles else len(context)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if not len(x) == number == len(w):
        raise InputError(
            f"{len(x)} rows of x, {number} of the context and {len(w)} weights: give the same"
            " events"
        )
    if x.ndim != 2 or w.ndim != 1 or (not particles and context.ndim != 2):
        raise InputError(
            f"x, context and weights of shapes {x.shape}, {np.shape(context)} and {w.shape}: give"
            " [events, dims], [events, context] and [events]"
        )
    if len(x) < 2:
        raise InputError(f"{len(x)} events: a training with held-out events needs at least 2")
    finite = {"x": x, "weights": w} | ({} if particles else {"the context": context})
    for name, values in finite.items():
        bad = ~np.isfinite(values).reshape(len(x), -1).all(axis=1)
        if bad.any():
            raise InputError(
                f"{name} is not finite in {bad.sum()} events, first in event {int(bad.argmax())}:"
                " select or repair the events"
            )
    if not w.sum() > 0:
        raise InputError(f"the weights have a total of {w.sum():g}: it must be positive")
    return x, context, w / np.abs(w).mean()


def _loss(
    flow: Flow, batch: Weighted, step: Step, share: float, *, signed: bool
) -> tuple[Array, dict[str, Array]]:
    (values, prepared), w = batch
    losses = flow.losses(values, prepared, step.key)
    if signed:
        losses = jnp.where(w < 0, jnp.minimum(losses, jnp.asarray(-_LEAST, losses.dtype)), losses)
    # of signed weights the sum over a batch may be near zero, that of their moduli never
    return jnp.sum(w * losses) / (share * jnp.sum(jnp.abs(w))), {}
