"""Train networks for the efficient score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from difana._errors import ConfigError
from difana._options import whole_number
from difana._status import joined
from difana._typing import Network
from difana.analysis.efficient_score import EfficientScore, efficient_score_of
from difana.analysis.members import train_members
from difana.analysis.network import network_for
from difana.analysis.options import NetworkOptions
from difana.analysis.pretrain import pretraining
from difana.config import digest
from difana.data import Sample
from difana.likelihood import Parameter
from difana.losses import ScorePlan, Step, efficient_score
from difana.train import AbstractTraining, Training, TrainResult


class EfficientScoreResult(AbstractTraining):
    """The outcome of a training.

    Attributes:
        observable: The efficient score.
        trainings: The trainings of the networks, one a member.
    """

    observable: EfficientScore
    trainings: tuple[TrainResult, ...]

    @property
    def status(self) -> int:
        """Bits of all trainings."""
        return joined([training.status for training in self.trainings])

    @property
    def diagnosis(self) -> str:
        """What went wrong in the trainings."""
        return " ".join(training.diagnosis for training in self.trainings if training.diagnosis)


def fit_efficient_score(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    key: PRNGKeyArray,
    network: NetworkOptions = NetworkOptions(hidden=(64, 64), activation="silu"),  # noqa: B008
    training: Training = pretraining(),
    pois: Sequence[str] = ("mu",),
    strength: float = 0.0,
    parameters: Sequence[Parameter] = (),
    members: int = 1,
    per_step: int | None = 4,
    start: Network | None = None,
    checkpoint: str | Path | None = None,
    fingerprint: str = "",
    **settings: Any,
) -> EfficientScoreResult:
    r"""Train networks on the scores of all parameters, and return the efficient score.

    One network learns all log ratios (`difana.losses.efficient_score`); the state that is best on
    held-out events counts. See `EfficientScore` for the formula, and `best_bins` for its bins.

    Args:
        train: Samples to train on, each standing for its full yield.
        validation: Held-out samples, the same.
        key: Key of weights and batches.
        network: Size of the network.
        training: Steps, batch, rate, schedule, patience, average.
        pois: Parameters of interest; the samples that they multiply are signals.
        strength: Signal strength at which the scores are taken: 0 for limits, 1 for measurements.
        parameters: Settings, as in `efficient_score_of`; none of them changes the training.
        members: Networks of an ensemble, whose outputs are averaged.
        per_step: Of the nuisances that move events, how many are drawn at each step.
        start: Instead of a new network: one with ``ScorePlan.of(...).outputs`` outputs.
        checkpoint: Folder of the checkpoints; a killed run continues there.
        fingerprint: What a resumed training must agree on, beside events, plan and options.
        settings: Further options of `difana.train.fit`.

    Returns:
        The observable and how the trainings went.

    Raises:
        ConfigError: If an option is out of range, or an ensemble is asked of one start.
        InputError: If the samples are not fit for it; see `ScorePlan` and `efficient_score_of`.

    Example:
        >>> import jax, numpy as np
        >>> from difana.data import Events, Normalisation
        >>> rng = np.random.default_rng(0)
        >>> def sample(name, mean, total, **kwargs):
        ...     x = rng.normal(mean, 1.0, (300, 1)).astype(np.float32)
        ...     return Sample(Events(x, np.full(300, total / 300, np.float32)), name=name, **kwargs)
        >>> norm = Normalisation(up=1.1, down=1 / 1.1, name="norm")
        >>> def split():
        ...     return [sample("s", 1.0, 10.0, normfactors=("mu",)),
        ...             sample("b", 0.0, 100.0, variations=(norm,))]
        >>> found = fit_efficient_score(
        ...     split(), split(), key=jax.random.key(0),
        ...     training=Training(steps=50, batch_size=300, patience=None), progress_bar=False)
        >>> found.message, found.observable.parameters
        ('ok', ('mu', 'norm'))
    """
    members = whole_number("members", members)
    if start is not None and members > 1:
        raise ConfigError(f"{members} members of one start are the same network: give no start")
    plan = ScorePlan.of(train, pois=pois, strength=strength)
    seen, held_out = (_without(part, plan.scaled) for part in (train, validation))

    def loss(net: Network, batch: Sequence[Sample], step: Step) -> tuple[Array, dict[str, Array]]:
        return efficient_score(net, batch, step, plan=plan, per_step=per_step)

    @eqx.filter_jit
    def measure(net: Network, held_out: Sequence[Sample]) -> tuple[Array, dict[str, Array]]:
        return efficient_score(net, held_out, plan=plan)

    make = network_for(network, train, outputs=plan.outputs)
    agreed = (fingerprint, digest(held_out), _shape_of(plan), dataclasses.astuple(training))
    trainings = train_members(
        loss,
        make if start is None else lambda _: start,
        seen,
        held_out,
        measure=measure,
        members=members,
        training=training,
        key=key,
        stage="efficient score",
        checkpoint=None if checkpoint is None else Path(checkpoint),
        fingerprint=" ".join(map(str, agreed)),
        **settings,
    )
    nets = [training.trainable for training in trainings]
    return EfficientScoreResult(
        efficient_score_of(nets, train, plan=plan, parameters=parameters), trainings
    )


def _without(samples: Sequence[Sample], names: Sequence[str]) -> list[Sample]:
    """Return the samples without variations that only scale: no network learns of them."""
    return [
        dataclasses.replace(s, variations=tuple(v for v in s.variations if v.name not in names))
        for s in samples
    ]


def _shape_of(plan: ScorePlan) -> list[object]:
    """Return the plan without names: renaming a parameter trains nothing again."""
    values = dataclasses.astuple(dataclasses.replace(plan, scaled=()))
    return [len(value) if isinstance(value, tuple) else value for value in values]
