"""Networks trained on cross-entropy as a careful person would: the baseline of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from difana._typing import Network
from difana.analysis.members import train_members
from difana.analysis.network import network_for
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.config import digest
from difana.data import Sample, nominal_samples
from difana.losses import class_entropy, cross_entropy
from difana.nn import MeanOf
from difana.train import Training, TrainResult


def pretrain(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    poi: str | Sequence[str] = "mu",
    classes: Mapping[str, int] | None = None,
    variations: bool = False,
    stage: str = "cross-entropy",
    checkpoint: Path | None = None,
    fingerprint: str = "",
    **settings: Any,
) -> tuple[Network, tuple[TrainResult, ...]]:
    """Train networks on cross-entropy; of each the best state on held-out events counts.

    Args:
        train: Samples to train on.
        validation: Held-out samples.
        network: Size of the network.
        training: Members, steps, batch and rate (those that begin with ``pretrain``).
        key: Key of weights and batches.
        poi: Parameter of interest; what it multiplies is signal.
        classes: Instead of signal and background: the number of the class by sample; the network
            gets an output for each.
        variations: Train on the systematic variations, too (augmentation).
        stage: Name in the history.
        checkpoint: Folder of the checkpoints.
        fingerprint: What a resumed training must agree on, beside events and options.
        settings: Further options of `difana.train.fit`.

    Returns:
        The network, or the mean of several, and how each training went.
    """
    if not variations:  # nor does a checkpoint hang on what is not seen
        train, validation = nominal_samples(train), nominal_samples(validation)

    def entropy(net: Network, batch: Sequence[Sample]) -> tuple[Array, dict[str, Array]]:
        if classes is not None:
            return class_entropy(net, batch, classes=classes)
        return cross_entropy(net, batch, poi=poi, variations=variations)

    @eqx.filter_jit
    def measure(net: Network, held_out: Sequence[Sample]) -> tuple[Array, dict[str, Array]]:
        return entropy(net, held_out)

    seen = (fingerprint, digest(validation), "" if classes is None else str(classes))
    outputs = 1 if classes is None else max(classes.values()) + 1
    found = train_members(
        lambda net, batch, step: entropy(net, batch),
        network_for(network, train, outputs=outputs),
        train,
        validation,
        measure=measure,
        members=training.members,
        training=pretraining(training),
        key=key,
        stage=stage,
        checkpoint=checkpoint,
        fingerprint=" ".join(filter(None, seen)),
        **settings,
    )
    nets = tuple(one.trainable for one in found)
    return nets[0] if len(nets) == 1 else MeanOf(nets), found


def pretraining(options: TrainingOptions = TrainingOptions()) -> Training:  # noqa: B008  # frozen
    """Return how a network is trained to classify, as ``difana run`` does it."""
    return Training(
        steps=options.pretrain_steps,
        batch_size=options.pretrain_batch,
        learning_rate=options.pretrain_rate,
        final_rate=0.0,
        patience=None,
    )
