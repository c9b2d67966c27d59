"""What is trained in one region without a look at the objective: classifiers and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from difana._typing import Network
from difana.analysis.category import Category
from difana.analysis.efficient_score import EfficientScore, jointly
from difana.analysis.fit_efficient_score import fit_efficient_score
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.pretrain import pretrain, pretraining
from difana.analysis.region_events import RegionEvents
from difana.likelihood import Parameter
from difana.train import TrainResult


def category_of(net: Network, own: RegionEvents) -> Network:
    """Return the network of a category, of that of another one."""
    return Category(net.net, own.category, net.classes) if isinstance(net, Category) else net


def joint_scores(
    trained: Sequence[Classified],
    regions: Sequence[RegionEvents],
    parameters: Sequence[Parameter],
) -> dict[int, EfficientScore]:
    """Return the efficient scores by place of the region, each with the information of all."""
    found = {r: own.score for r, own in enumerate(trained) if own.score is not None}
    if not found:
        return {}
    joint = jointly(tuple(found.values()), [regions[r].train for r in found], parameters)
    return dict(zip(found, joint, strict=True))


def with_others(nets: Sequence[Network], others: Mapping[int, Network]) -> tuple[Network, ...]:
    """Return networks by region, some of them others."""
    return tuple(others.get(r, net) for r, net in enumerate(nets))


class Classified(NamedTuple):
    """What was trained in one region without a look at the objective."""

    baseline: Network
    score: EfficientScore | None
    results: tuple[TrainResult, ...]


def classify(
    own: RegionEvents,
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    poi: str | Sequence[str],
    inside: Callable[[str], Path | None],
    baseline: Network | None,
    scored: bool,
    **settings: Any,
) -> Classified:
    """Train the networks of cross-entropy and, by choice, of the efficient score of a region."""
    first_key, score_key, _ = jax.random.split(key, 3)
    results: list[TrainResult] = []
    if baseline is None:
        baseline, trainings = pretrain(
            own.train,
            own.validation,
            network=network,
            training=training,
            key=first_key,
            poi=poi,
            classes=dict(own.classes) or None,
            checkpoint=inside("cross_entropy"),
            **settings,
        )
        if own.classes:
            baseline = Category(baseline, own.category, 1 + max(k for _, k in own.classes))
        results += trainings
    score = None
    if scored:
        fitted = fit_efficient_score(
            own.train,
            own.validation,
            key=score_key,
            network=network,
            training=pretraining(training),
            pois=own.pois,
            members=training.members,
            checkpoint=inside("score"),
            **settings,
        )
        score = fitted.observable
        results += fitted.trainings
    return Classified(baseline, score, tuple(results))
