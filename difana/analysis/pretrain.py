"""Networks trained on cross-entropy as a careful person would: the baseline of every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from difana import train as training_loop
from difana._typing import Network
from difana.analysis.network import network_for
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.config import digest
from difana.data import Sample
from difana.losses import cross_entropy
from difana.nn import MeanOf, trainable
from difana.train import Training, TrainResult


def pretrain(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    poi: str = "mu",
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
        variations: Train on the systematic variations, too (augmentation).
        stage: Name in the history.
        checkpoint: Folder of the checkpoints.
        fingerprint: What a resumed training must agree on, beside events and options.
        settings: Further options of `difana.train.fit`.

    Returns:
        The network, or the mean of several, and how each training went.
    """
    own = pretraining(training)
    steps = training.pretrain_steps
    if not variations:  # nor does a checkpoint hang on what is not seen
        train, validation = nominal_samples(train), nominal_samples(validation)
    make = network_for(network, train)

    @eqx.filter_jit
    def measure(net: Network, held_out: Sequence[Sample]) -> tuple[Array, dict[str, Array]]:
        return cross_entropy(net, held_out, poi=poi, variations=variations)

    found = []
    for member in range(training.members):
        weights_key, batches_key = jax.random.split(jax.random.fold_in(key, member))
        start = make(weights_key)
        several = training.members > 1
        found.append(
            training_loop.fit(
                lambda net, batch, step: cross_entropy(net, batch, poi=poi, variations=variations),
                start,
                train,
                steps=steps,
                batch_size=own.batch(max(len(sample.nominal) for sample in train)),
                optimizer=own.optimizer(steps),
                key=batches_key,
                trained=trainable(start),
                validate=lambda net: measure(net, validation),
                checkpoint=checkpoint and (checkpoint / str(member) if several else checkpoint),
                stage=f"{stage} {member + 1}/{training.members}" if several else stage,
                fingerprint=f"{fingerprint} {digest(validation)}",
                **settings,
            )
        )
    nets = tuple(one.trainable for one in found)
    return nets[0] if len(nets) == 1 else MeanOf(nets), tuple(found)


def nominal_samples(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the samples without their variations.

    Example:
        >>> from difana.data import Events, Normalisation
        >>> events = Events(jax.numpy.ones((2, 1)), jax.numpy.ones(2))
        >>> norm = Normalisation(up=1.1, down=0.9, name="norm")
        >>> nominal_samples([Sample(events, (norm,), name="b")])[0].variations
        ()
    """
    return tuple(Sample(s.nominal, name=s.name, normfactors=s.normfactors) for s in samples)


def pretraining(options: TrainingOptions = TrainingOptions()) -> Training:  # noqa: B008  # frozen
    """Return how a network is trained to classify, as ``difana run`` does it."""
    return Training(
        steps=options.pretrain_steps,
        batch_size=options.pretrain_batch,
        learning_rate=options.pretrain_rate,
        final_rate=0.0,
        patience=None,
    )
