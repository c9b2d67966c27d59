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

from difana._errors import InputError
from difana.flows._columns import smeared
from difana.flows.spline_flow import SplineFlow
from difana.train import AbstractTraining, Step, Training, TrainResult, Weighted, train_rows


class FlowResult(AbstractTraining):
    r"""A trained flow.

    Attributes:
        flow: The flow at its lowest held-out loss.
        loss: That loss: the weighted mean of :math:`-\ln p`.
        training: The record of the training.
    """

    flow: SplineFlow
    loss: Float[Array, ""]
    training: TrainResult

    @property
    def status(self) -> int:
        """That of the training."""
        return self.training.status

    @property
    def diagnosis(self) -> str:
        """That of the training."""
        return self.training.diagnosis


def fit_flow(
    flow: SplineFlow,
    x: Float[Array, "events dims"],
    given: Float[Array, "events context"],
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

    by Adam with clipped gradients (``difana.train.train_rows``), the state of the lowest held-out
    loss kept. Computation in single precision, after the mean is subtracted in double precision.

    Args:
        flow: Where to start, e.g. from ``spline_flow``.
        x: Values, ``[events, dims]``.
        given: Contexts, ``[events, context]``.
        key: Random key of split and batches.
        weights: Weights of the events; their total must be positive, their scale does not matter.
        training: Epochs, batch size, learning rate, ...
        checkpoint: Folder of the checkpoints: an interrupted training continues there.
        progress_bar: Show a bar.

    Returns:
        The trained flow.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: If shapes differ, numbers are not finite, the total weight is not positive or
            there are fewer than two events.

    Example:
        >>> import jax
        >>> x = jnp.linspace(-1, 1, 8)[:, None]
        >>> fit_flow(None, x, x[:4], key=jax.random.key(0))
        Traceback (most recent call last):
        difana._errors.InputError: 8 rows of x, 4 of the context and 8 weights: ...
    """
    values, context, w = _checked(x, given, weights)
    # without large constants, which single precision could not hold
    origin = np.asarray(flow.mean, np.float64), np.asarray(flow.given_mean, np.float64)
    near = _at(flow, tuple(np.zeros_like(part) for part in origin))
    seed = np.asarray(jax.random.key_data(jax.random.fold_in(key, 1))).astype(np.uint32)
    values = smeared(values, flow.atoms, np.random.default_rng(seed.tolist()))
    rows = (values - origin[0], context - origin[1])
    found = train_rows(
        _loss,
        near,
        tuple(part.astype(np.float32) for part in rows),
        key=key,
        weights=w.astype(np.float32),
        training=training,
        transform=lambda adam: optax.chain(optax.clip_by_global_norm(1.0), adam),
        trained=near.trained(),
        checkpoint=checkpoint,
        stage="flow",
        progress_bar=progress_bar,
    )
    trained = _at(found.trainable, (flow.mean, flow.given_mean))
    return FlowResult(trained, jnp.asarray(found.best_metric), found)


def _at(flow: SplineFlow, origin: tuple) -> SplineFlow:
    return eqx.tree_at(lambda f: (f.mean, f.given_mean), flow, origin)


def _checked(x: Any, given: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, contexts and weights of mean 1, all in float64."""
    for name, values in (("x", x), ("the context", given), ("weights", weights)):
        if np.iscomplexobj(values):
            raise InputError(f"{name}: complex numbers; give real ones")
    x, given = np.asarray(x, np.float64), np.asarray(given, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if not len(x) == len(given) == len(w):
        raise InputError(
            f"{len(x)} rows of x, {len(given)} of the context and {len(w)} weights: give the same"
            " events"
        )
    if x.ndim != 2 or given.ndim != 2 or w.ndim != 1:
        raise InputError(
            f"x, context and weights of shapes {x.shape}, {given.shape} and {w.shape}: give"
            " [events, dims], [events, context] and [events]"
        )
    if len(x) < 2:
        raise InputError(f"{len(x)} events: a training with held-out events needs at least 2")
    for name, values in (("x", x), ("the context", given), ("weights", w)):
        bad = ~np.isfinite(values).reshape(len(x), -1).all(axis=1)
        if bad.any():
            raise InputError(
                f"{name} is not finite in {bad.sum()} events, first in event {int(bad.argmax())}:"
                " select or repair the events"
            )
    if not w.sum() > 0:
        raise InputError(f"the weights have a total of {w.sum():g}: it must be positive")
    return x, given, w / w.mean()


def _loss(flow: SplineFlow, batch: Weighted, step: Step) -> tuple[Array, dict[str, Array]]:
    logs = flow.log_prob(*batch.rows)
    return -jnp.sum(batch.weights * logs) / jnp.sum(batch.weights), {}
