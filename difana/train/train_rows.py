"""Train on rows: held-out split, mini-batches, early stopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from difana._errors import ConfigError, InputError
from difana._typing import PyTree
from difana.losses.step import Step
from difana.train._options import LoopOptions
from difana.train.minimise import minimise
from difana.train.result import TrainResult
from difana.train.rows import RowSampler, Weighted, count_rows
from difana.train.step import Loss, LossWithMemory
from difana.train.training import Training

_OURS = ("validate", "validate_every", "patience", "average")


def train_rows(
    loss: Loss | LossWithMemory,
    model: PyTree,
    rows: PyTree,
    *,
    key: PRNGKeyArray,
    weights: Float[ArrayLike, " rows"] | None = None,
    training: Training = Training(),
    held_out_loss: Loss | LossWithMemory | None = None,
    transform: Callable[[optax.GradientTransformation], optax.GradientTransformation] | None = None,
    **options: Unpack[LoopOptions],
) -> TrainResult:
    """Minimise a loss over mini-batches of rows; the state of the lowest held-out loss is returned.

    :func:`difana.train.minimise` on a random part of the rows, with the loss of the others as what
    is validated at the start and after every epoch.

    Args:
        loss: ``loss(model, batch, step) -> (scalar, aux)``, the mean over a batch of `Weighted`
            rows: ``batch.rows`` and ``batch.weights``.
        model: Any PyTree.
        rows: Any PyTree of arrays with one common leading axis.
        key: Random key of split, batches and what the loss draws.
        weights: One number a row; all one by default. Their total must be positive.
        training: Epochs, batch size, learning rate, ...
        held_out_loss: What is validated, by default the loss. For a network that behaves otherwise
            when it is not trained, with batch statistics or dropout.
        transform: From the Adam of the training to the optimizer, e.g. to clip gradients.
        options: Further options of ``minimise``: ``trained``, ``memory``, ``checkpoint``, ...

    Returns:
        The result; ``best_metric`` is the lowest held-out loss.

    Raises:
        ConfigError: If an option makes no sense or belongs into ``training``.
        InputError: If there are fewer than two rows, rows and weights differ in number, or a part
            has no positive weight.

    Example:
        >>> x = jnp.linspace(-1.0, 1.0, 200)
        >>> def squares(slope, batch, step):
        ...     residual = batch.rows["y"] - slope * batch.rows["x"]
        ...     return jnp.average(residual**2, weights=batch.weights), {}
        >>> result = train_rows(
        ...     squares, jnp.asarray(0.0), {"x": x, "y": 3 * x}, key=jax.random.key(0),
        ...     training=Training(batch_size=16, learning_rate=0.1))
        >>> round(float(result.trainable), 1)
        3.0
    """
    for name in _OURS:
        if name in options:
            remedy = "held_out_loss" if name.startswith("validate") else f"Training({name}=...)"
            raise ConfigError(f"{name}: is no option here; give {remedy}.")
    count = count_rows(rows)
    w = np.ones(count, np.float32) if weights is None else np.asarray(weights)
    if w.shape != (count,):
        raise InputError(f"{count} rows and weights of shape {w.shape}: give one number a row")
    split, batches = jax.random.split(key)
    held = held_out(w, share=training.held_out, key=split)
    everything = Weighted(jax.tree.map(jnp.asarray, rows), jnp.asarray(w))
    seen, unseen = (jax.tree.map(lambda leaf, p=p: leaf[p], everything) for p in (~held, held))
    number = len(seen.weights)
    steps = training.steps_for(number)
    step, judged = Step.at(key=batches), loss if held_out_loss is None else held_out_loss
    optimizer = training.optimizer(steps)
    return minimise(
        loss,
        model,
        RowSampler(seen, key=batches, size=training.batch(number)),
        steps=steps,
        optimizer=optimizer if transform is None else transform(optimizer),
        key=batches,
        validate=lambda *now: _measured(judged, now, unseen, step),
        validate_every=training.steps_an_epoch(number),
        patience=training.patience,
        average=training.average,
        **options,
    )


@eqx.filter_jit
def _measured(
    loss: Any, now: tuple[PyTree, ...], rows: Weighted, step: Step
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return loss and aux of all held-out rows; ``now`` is the model and, if any, the memory."""
    return loss(now[0], rows, step, *now[1:])[:2]


def held_out(
    weights: Float[np.ndarray, " rows"], *, share: float, key: PRNGKeyArray
) -> Bool[np.ndarray, " rows"]:
    """Return which rows are held out: a random share, at least one and not all.

    Raises:
        InputError: If there are fewer than two rows, or a part has no positive weight.

    Example:
        >>> held_out(np.ones(2), share=0.9, key=jax.random.key(0)).tolist()
        [True, False]
    """
    if len(weights) < 2:
        raise InputError(f"{len(weights)} rows: a training with held-out rows needs at least 2")
    held = np.array(jax.random.uniform(key, (len(weights),)) < share)
    held[0], held[-1] = True, False  # neither part may be empty
    one, other = (float(weights[part].sum()) for part in (held, ~held))
    if not min(one, other) > 0:
        raise InputError(
            f"the {held.sum()} held-out rows have a total weight of {one:g}, the others {other:g}: "
            "give more rows, or fewer negative weights"
        )
    return held
