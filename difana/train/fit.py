"""Minimise a loss over mini-batches of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import optax
from jaxtyping import PRNGKeyArray

from difana._options import whole_number
from difana._typing import PyTree
from difana.data.batches import BatchSampler
from difana.data.samples import Sample
from difana.train._options import Options
from difana.train.minimise import minimise
from difana.train.result import TrainResult
from difana.train.step import Loss, LossWithMemory


def fit(
    loss: Loss | LossWithMemory,
    trainable: PyTree,
    samples: Sequence[Sample],
    *,
    steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation,
    key: PRNGKeyArray,
    **options: Unpack[Options],
) -> TrainResult:
    """Minimise a loss over mini-batches that represent the analysis.

    :func:`difana.train.minimise` with the batches of `difana.data.BatchSampler`.

    Args:
        loss: ``loss(trainable, batch, step) -> (scalar, aux)``; ``batch`` is a tuple of samples.
        trainable: Any PyTree: a Flax NNX or Equinox module, a dictionary of such, ...
        samples: The samples of the training split.
        steps: Number of steps.
        batch_size: Number of events of each sample in a batch.
        optimizer: An optax gradient transformation.
        key: Key of the batches and of what the loss draws.
        options: ``validate``, ``patience``, ``trained``, ``memory``, ``average``, ``checkpoint``,
            ``mesh`` and all other options of :func:`difana.train.minimise`.

    Returns:
        The result; its status says whether the numbers can be trusted.

    Raises:
        ConfigError: As ``minimise``.
        InputError: If a sample has no events or weights that are not finite; as ``minimise``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from difana.data.events import Events
        >>> events = Events(jnp.arange(8.0)[:, None], jnp.ones(8), columns=("x",))
        >>> def squares(centre, batch, step):
        ...     x, w = batch[0].nominal["x"], batch[0].nominal.weights
        ...     return jnp.sum(w * (x - centre) ** 2) / jnp.sum(w), {"centre": centre}
        >>> result = fit(
        ...     squares, jnp.asarray(0.0), [Sample(events, name="data")], steps=50, batch_size=8,
        ...     optimizer=optax.sgd(0.2), key=jax.random.key(0),
        ... )
        >>> result.message, round(float(result.trainable), 3)
        ('ok', 3.5)
    """
    size = whole_number("batch_size", batch_size)
    draw = BatchSampler(samples, key=key, size=size)
    return minimise(loss, trainable, draw, steps=steps, optimizer=optimizer, key=key, **options)
