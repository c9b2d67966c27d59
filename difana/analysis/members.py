"""Networks that differ in their first weights and batches alone: an ensemble, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from difana._typing import Network
from difana.data import Sample
from difana.nn import trainable
from difana.train import Training, TrainResult, fit


def train_members(
    loss: Callable[..., Any],
    make: Callable[[PRNGKeyArray], Network],
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    measure: Callable[[Network, Sequence[Sample]], Any],
    members: int,
    training: Training,
    key: PRNGKeyArray,
    stage: str,
    checkpoint: Path | None = None,
    **settings: Any,
) -> tuple[TrainResult, ...]:
    """Train the networks of an ensemble; of each the best state on held-out events counts.

    All share one compiled program.

    Args:
        loss: What is minimised, as in `difana.train.fit`.
        make: Key -> network.
        train: Samples to train on.
        validation: Held-out samples.
        measure: Network and held-out samples -> metric; compiled.
        members: Number of networks.
        training: Steps, batch, rate, schedule, patience, average.
        key: Key of weights and batches.
        stage: Name in the history; several are numbered.
        checkpoint: Folder of the checkpoints; several have a folder each in it.
        settings: Further options of `difana.train.fit`.
    """
    rows = max(len(sample.nominal) for sample in train)
    steps = training.steps_for(rows)
    found = []
    for member in range(members):
        weights_key, batches_key = jax.random.split(jax.random.fold_in(key, member))
        net, several = make(weights_key), members > 1
        found.append(
            fit(
                loss,
                net,
                train,
                steps=steps,
                batch_size=training.batch(rows),
                optimizer=training.optimizer(steps),
                key=batches_key,
                trained=trainable(net),
                validate=lambda net: measure(net, validation),
                patience=training.patience,
                average=training.average,
                checkpoint=checkpoint and (checkpoint / str(member) if several else checkpoint),
                stage=f"{stage} {member + 1}/{members}" if several else stage,
                **settings,
            )
        )
    return tuple(found)
