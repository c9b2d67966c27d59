"""Train a classifier on labelled rows: batch statistics, dropout and attacks included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from difana._errors import InputError
from difana._typing import PyTree
from difana.losses import attacked, multiclass_entropy
from difana.losses.step import Step
from difana.nn import batch_statistics, evaluation_mode, trainable, training_mode
from difana.train._options import LoopOptions
from difana.train.result import TrainResult
from difana.train.rows import Weighted, count_rows
from difana.train.train_rows import train_rows
from difana.train.training import Training


def fit_tagger(
    net: PyTree,
    inputs: PyTree,
    labels: Int[ArrayLike, " rows"],
    *,
    key: PRNGKeyArray,
    classes: int = 2,
    weights: Float[ArrayLike, " rows"] | None = None,
    training: Training = Training(),
    smoothing: float = 0.0,
    focal: float = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    attack: dict[str, Any] | None = None,
    augment: Callable[[PyTree, PRNGKeyArray], PyTree] | None = None,
    **options: Unpack[LoopOptions],
) -> TrainResult:
    """Minimise the cross-entropy of labelled rows; the network of the lowest held-out one returns.

    :func:`difana.train.train_rows` with :func:`difana.losses.multiclass_entropy`. Batch statistics
    travel in the memory of the loop, dropout is drawn from the key of the step; held-out rows are
    judged, and the network is returned, in the state of evaluation.

    Args:
        net: Any callable PyTree, ``inputs -> [rows, classes]``.
        inputs: What it is given: an array or `difana.data.Inputs`.
        labels: Number of the class of each row.
        key: Random key of split, batches and dropout.
        classes: Number of classes.
        weights: Weights of the rows; one by default.
        training: Epochs, batch size, learning rate, ...
        smoothing: Share of a label that all classes get.
        focal: Power by which easy events count less.
        class_weights: Factor of each class.
        attack: Options of :func:`difana.losses.attacked`: the training is on inputs that the
            network likes least.
        augment: ``augment(inputs, key) -> inputs``: what is done to the inputs of each step, such
            as `difana.nn.taggers.rotated`; held-out rows stay as they are.
        options: Further options of ``minimise``.

    Returns:
        The result; ``trainable`` is the network.

    Raises:
        InputError: If a label is no class, or their number is not that of the rows.
        ConfigError: As ``train_rows``.

    Example:
        >>> from difana.nn import MLP
        >>> x = jax.random.normal(jax.random.key(0), (400, 2))
        >>> labels = (x[:, 0] > 0).astype(int)
        >>> result = fit_tagger(
        ...     MLP(2, [8], 2, key=jax.random.key(1)), x, labels, key=jax.random.key(2),
        ...     training=Training(epochs=20, learning_rate=0.05))
        >>> float(jnp.mean(jnp.argmax(result.trainable(x), axis=1) == labels)) > 0.95
        True
    """
    count, own = count_rows(inputs), np.asarray(labels)
    if own.shape != (count,):
        raise InputError(f"{count} rows and labels of shape {own.shape}: give one number a row")
    if own.min() < 0 or own.max() >= classes:
        wrong = own.min() if own.min() < 0 else own.max()
        raise InputError(f"label {wrong} is no class of {classes}: labels are 0 to {classes - 1}")
    start = batch_statistics(net)

    def entropy(net: PyTree, batch: Weighted) -> Float[Array, ""]:
        return multiclass_entropy(
            net(batch.rows["inputs"]),
            batch.rows["labels"],
            batch.weights,
            smoothing=smoothing,
            focal=focal,
            class_weights=class_weights,
        )

    def judged(net: PyTree, batch: Weighted, step: Step, memory: PyTree = None) -> tuple:
        net = evaluation_mode(net, statistics=memory or None)
        return entropy(net, batch), {}, memory

    def loss(net: PyTree, batch: Weighted, step: Step, memory: PyTree = None) -> tuple:
        if augment is not None:
            rows = {**batch.rows, "inputs": augment(batch.rows["inputs"], step.key)}
            batch = Weighted(rows, batch.weights)
        if attack is not None:
            still = evaluation_mode(net, statistics=memory or None)

            def of_inputs(inputs: PyTree) -> Array:
                rows = {**batch.rows, "inputs": inputs}
                return entropy(still, Weighted(rows, batch.weights))

            moved = attacked(of_inputs, batch.rows["inputs"], **attack)
            batch = Weighted({**batch.rows, "inputs": moved}, batch.weights)
        net = training_mode(net, statistics=memory or None, key=step.key)
        value = entropy(net, batch)
        return value, {}, batch_statistics(net)

    def without(function: Any) -> Any:
        """Return the loss of a network that keeps nothing."""
        return lambda net, batch, step: function(net, batch, step)[:2]

    keeps = bool(jax.tree.leaves(start))
    rows = {"inputs": inputs, "labels": jnp.asarray(own)}
    result = train_rows(
        loss if keeps else without(loss),
        net,
        rows,
        key=key,
        weights=weights,
        training=training,
        held_out_loss=judged if keeps else without(judged),
        **{
            "trained": trainable(net),
            **({"memory": start} if keeps else {}),
            **options,
        },  # pyright: ignore[reportArgumentType]
    )
    found = evaluation_mode(result.trainable, statistics=result.memory if keeps else None)
    return eqx.tree_at(lambda r: r.trainable, result, found)
