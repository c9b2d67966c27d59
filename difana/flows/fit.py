"""Training of a flow by maximum likelihood."""

from __future__ import annotations

import os
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import ConfigError, InputError
from difana.data import Events, Sample
from difana.flows.spline_flow import SplineFlow
from difana.train import TrainResult, fit


class FlowResult(eqx.Module):
    r"""A trained flow.

    Attributes:
        flow: The flow at its lowest held-out loss.
        loss: That loss: the weighted mean of :math:`-\ln p`.
        training: The record of the training.
    """

    flow: SplineFlow
    loss: Float[Array, ""]
    training: TrainResult


def usual_batch(rows: int) -> int:
    """Return the rows of a batch: about 64 batches an epoch, of 128 to 2048 rows.

    Small samples need the steps more than the size: with batches of 1024 or 2048, some thousand
    events are fitted too badly for bins whose errors are those of the events.

    Example:
        >>> usual_batch(5_000), usual_batch(64_000), usual_batch(10**6)
        (128, 1000, 2048)
    """
    return min(max(rows // 64, 128), 2048)


def fit_flow(
    flow: SplineFlow,
    x: Float[Array, "events dims"],
    given: Float[Array, "events context"],
    *,
    key: PRNGKeyArray,
    weights: Float[Array, " events"] | None = None,
    epochs: int = 30,
    batch_size: int = 1024,
    learning_rate: float = 2e-3,
    patience: int = 5,
    held_out: float = 0.1,
    checkpoint: str | os.PathLike[str] | None = None,
    progress_bar: bool = False,
) -> FlowResult:
    r"""Return the flow that maximises the likelihood of the events.

    $$ L = -\frac{\sum_i w_i \ln p(x_i \mid c_i)}{\sum_i w_i} $$

    by Adam with a cosine schedule (``difana.train.fit``), the state of the lowest held-out loss
    kept. Computation in single precision.

    Args:
        flow: Where to start, e.g. from ``spline_flow``.
        x: Values, ``[events, dims]``.
        given: Contexts, ``[events, context]``.
        key: Random key of split and batches.
        weights: Weights of the events; their total must be positive.
        epochs: Passes over the events.
        batch_size: Events a step.
        learning_rate: Largest rate of Adam.
        patience: Epochs without improvement on held-out events after which it stops.
        held_out: Fraction of held-out events.
        checkpoint: Folder of the checkpoints: an interrupted training continues there.
        progress_bar: Show a bar.

    Returns:
        The trained flow.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: If shapes differ, or numbers are not finite.

    Example:
        >>> import jax
        >>> x = jnp.linspace(-1, 1, 8)[:, None]
        >>> fit_flow(None, x, x[:4], key=jax.random.key(0))
        Traceback (most recent call last):
        difana._errors.InputError: 8 rows of x, 4 of the context and 8 weights: ...
    """
    w = jnp.ones(len(x)) if weights is None else jnp.asarray(weights)
    if not len(x) == len(given) == len(w):
        raise InputError(
            f"{len(x)} rows of x, {len(given)} of the context and {len(w)} weights: give the same"
            " events"
        )
    if epochs < 1 or batch_size < 1 or not 0 < held_out < 1:
        raise ConfigError(
            f"epochs = {epochs}, batch_size = {batch_size}, held_out = {held_out}: at least one"
            " epoch and one event, and a fraction between 0 and 1 are needed"
        )
    table = jnp.concatenate([x, given], axis=1).astype(jnp.float32)
    if not bool(jnp.all(jnp.isfinite(table))):
        raise InputError("x or context is not finite: select or repair the events")
    key_split, key_batches = jax.random.split(key)
    held = np.array(jax.random.uniform(key_split, (len(x),)) < held_out)
    held[0], held[-1] = True, False  # neither part may be empty
    train, test = (Events(table[part], w[part].astype(jnp.float32)) for part in (~held, held))
    steps = max(1, len(train) // batch_size)
    found = fit(
        _loss,
        flow,
        [Sample(train, name="flow")],
        steps=epochs * steps,
        batch_size=min(batch_size, len(train)),
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adam(optax.cosine_decay_schedule(learning_rate, epochs * steps)),
        ),
        key=key_batches,
        validate=lambda flow: (_held_out(flow, test), {}),
        validate_every=steps,
        patience=patience,
        trained=flow.trained(),
        checkpoint=checkpoint,
        stage="flow",
        progress_bar=progress_bar,
    )
    return FlowResult(found.trainable, jnp.asarray(found.best_metric), found)


def _mean_loss(flow: SplineFlow, events: Events) -> Array:
    dims = len(flow.mean)
    logs = flow.log_prob(events.features[:, :dims], events.features[:, dims:])
    return -jnp.sum(events.weights * logs) / jnp.sum(events.weights)


def _loss(flow: Any, batch: tuple, progress: Array) -> tuple[Array, dict[str, Array]]:
    return _mean_loss(flow, batch[0].nominal), {}


_held_out = eqx.filter_jit(_mean_loss)
