"""The recipe: classification, the efficient score, descent on the objective; the best is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from difana._errors import ConfigError, InputError
from difana._status import joined
from difana._typing import Network
from difana.analysis.best_bins import best_bins
from difana.analysis.descent import descend, median_width
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.fit_efficient_score import fit_efficient_score
from difana.analysis.number_of_bins import BinCurve, number_of_bins
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.own_parts import objective_of
from difana.analysis.pooled import pooled
from difana.analysis.pretrain import pretrain, pretraining
from difana.analysis.question import Question, log_objective, question_of
from difana.analysis.templates import ObservedSample, hard_channel, observe
from difana.analysis.trees import BoostedTrees, check_trees, observe_trees, train_trees
from difana.data import Sample
from difana.likelihood import Channel, Parameter
from difana.train import AbstractTraining, TrainResult

CROSS_ENTROPY = "cross-entropy, best bins"
SCORE = "efficient score, best bins"
DESCENT = "trained on the objective"
GIVEN = "given network and edges"
FILES = {
    CROSS_ENTROPY: "weights_baseline.eqx",
    GIVEN: "weights_baseline.eqx",
    SCORE: "weights_score.eqx",
    DESCENT: "weights_descent.eqx",
}


class Candidate(eqx.Module):
    """An observable with bins that might be the one of the analysis.

    Attributes:
        name: What it is (static).
        net: The network; its first output is binned.
        edges: Bin edges.
        metric: The objective on held-out events in hard bins, penalties included (static).
    """

    net: Network
    edges: Float[np.ndarray, " edges"]
    name: str = eqx.field(static=True)
    metric: float = eqx.field(static=True)

    @property
    def file(self) -> str:
        """Name of the file of its weights in a result folder."""
        return FILES[self.name]


class Optimised(AbstractTraining):
    """What the recipe found.

    Attributes:
        net: The network of the best candidate.
        edges: Bin edges of its first output.
        baseline_net: The network of cross-entropy.
        score_net: The efficient score; None where it was not asked for.
        candidates: All candidates.
        chosen: Name of the best one on held-out events (static).
        curves: Limit against number of bins, by candidate; empty for a given number (static).
        trees: Boosted trees, for comparison alone; None where they were not asked for (static).
        bandwidth: Kernel width at the end of a descent, in units of the observable (static).
        history: Records of all stages (static).
        status: How the trainings ended, bits of `difana.train.TrainStatus`.
        diagnosis: What went wrong in them, and the remedy; empty where nothing did.
    """

    net: Network
    edges: Float[np.ndarray, " edges"]
    baseline_net: Network
    bandwidth: float = eqx.field(static=True)
    history: tuple[dict[str, Any], ...] = eqx.field(static=True)
    status: int = eqx.field(static=True)
    diagnosis: str = eqx.field(static=True)
    score_net: EfficientScore | None = None
    candidates: tuple[Candidate, ...] = ()
    chosen: str = eqx.field(static=True, default=DESCENT)
    curves: dict[str, BinCurve] = eqx.field(static=True, default_factory=dict)
    trees: BoostedTrees | None = eqx.field(static=True, default=None)

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1


def optimise(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    poi: str = "mu",
    channel: str = "SR",
    staterror: bool = True,
    directory: Path | None = None,
    resume: bool | Literal["same"] = True,
    progress_bar: bool = True,
    fingerprint: str = "",
    mesh: Mesh | None = None,
    baseline: Network | None = None,
    edges: Float[ArrayLike, " edges"] | None = None,
) -> Optimised:
    """Find an observable and its binning for the objective of an analysis.

    1. A network learns cross-entropy; the best state on held-out events is the baseline.
    2. With ``training.start = "score"`` another learns the scores of all parameters, which make
       the efficient score (`EfficientScore`).
    3. For both the best bins are searched on training and held-out events (`best_bins`), with
       ``training.bins = "auto"`` as many as held-out events confirm (`number_of_bins`); both get
       the same number, the larger one.
    4. From the efficient score (without it, from cross-entropy), network and edges descend on the
       objective itself (`descend`).
    5. All are measured in hard bins of held-out events; the best is returned, with the others.
    6. With ``training.trees`` boosted trees are trained, too, and get the best bins, as many as the
       others. They are for comparison: nothing else depends on them.

    With ``training.constraints`` the descent is one on a Lagrangian whose multipliers ascend
    (`difana.losses.lagrangian`), and binnings and states are compared by the objective plus ten
    times their violations, so that a state that obeys wins over one that does not.

    Args:
        train: Samples to train on, each standing for its full yield.
        validation: Held-out samples, the same.
        network: Size of the network.
        training: Steps, rates, bins, ...
        key: Key of weights and batches.
        others: Further channels, constant.
        parameters: Settings of parameters, as in ``build_model``.
        poi: Parameter of interest; what it multiplies is signal.
        channel: Name of the trained channel.
        staterror: Include the statistical uncertainty of the simulation.
        directory: Folder of the checkpoints; None for none.
        resume: False: delete the checkpoints first; ``"same"``: those of another training.
        progress_bar: Show progress.
        fingerprint: What a resumed descent must agree on, beside events and options; networks that
            classify do not see all of the analysis, and compare what they see.
        mesh: Devices to spread the batches over.
        baseline: A network trained before, e.g. shared by analyses that differ in their
            systematics only; the first stage is left out.
        edges: Edges of the baseline, from which the descent starts; neither the score nor bins are
            searched.

    Raises:
        ConfigError: If the objective is unknown or there are fewer than two bins.
        InputError: If boosted trees are asked for and cannot be trained.
    """
    if training.trees:
        check_trees(train)
    objective_of(training.objective)
    if isinstance(training.bins, int) and training.bins < 2:
        raise ConfigError(f"{training.bins} bin(s): an observable needs at least two")
    first_key, score_key, descent_key = jax.random.split(key, 3)
    settings: dict[str, Any] = {"resume": resume, "progress_bar": progress_bar}
    inside = _inside(directory)
    results: list[TrainResult] = []
    if baseline is None:
        baseline, trainings = pretrain(
            train,
            validation,
            network=network,
            training=training,
            key=first_key,
            poi=poi,
            checkpoint=inside("cross_entropy"),
            mesh=mesh,
            **settings,
        )
        results += trainings
    score = None
    if training.start == "score" and edges is None:
        fitted = fit_efficient_score(
            train,
            validation,
            key=score_key,
            network=network,
            training=pretraining(training),
            pois=(poi,),
            members=training.members,
            checkpoint=inside("score"),
            mesh=mesh,
            **settings,
        )
        score = fitted.observable
        results += fitted.trainings
    question = question_of(training, others=others, parameters=parameters, poi=poi)
    desk = _Desk(train, validation, question, training, channel=channel, staterror=staterror)
    curves: dict[str, BinCurve] = {}
    if edges is None:
        nets = {CROSS_ENTROPY: baseline} | ({} if score is None else {SCORE: score})
        seen = {name: desk.seen(net) for name, net in nets.items()}
        bins = training.bins
        if bins == "auto":
            curves = {name: desk.curve(own) for name, own in seen.items()}
            bins = max(curve.chosen for curve in curves.values())
        found = {name: desk.edges(own, int(bins)) for name, own in seen.items()}
        candidates = [desk.candidate(name, nets[name], found[name], seen[name]) for name in nets]
    else:
        given = np.asarray(edges, float)
        candidates = [desk.candidate(GIVEN, baseline, given, desk.seen(baseline))]
    if training.steps:
        start = candidates[-1]
        result = descend(
            start.net,
            start.edges,
            train,
            validation,
            question=question,
            training=training,
            key=descent_key,
            channel=channel,
            staterror=staterror,
            checkpoint=inside(training.objective.replace(":", ".")),
            fingerprint=f"{fingerprint} {network} {dataclasses.replace(training, trees=False)}",
            mesh=mesh,
            **settings,
        )
        best = result.trainable
        results.append(result)
        moved = np.asarray(best["edges"].edges, float)
        candidates.append(desk.candidate(DESCENT, best["net"], moved, desk.seen(best["net"])))
    trees = None
    if training.trees:
        trees = train_trees(train, validation, poi=poi, seed=training.seed)
        trees = desk.with_bins(trees, len(candidates[0].edges) - 1)
    winner = min(candidates, key=lambda own: own.metric)
    return Optimised(
        net=winner.net,
        edges=winner.edges,
        baseline_net=baseline,
        score_net=score,
        candidates=tuple(candidates),
        chosen=winner.name,
        curves=curves,
        trees=trees,
        bandwidth=median_width(winner.edges) * training.bandwidth[1],
        history=tuple(record for one in results for record in one.history),
        status=joined([own.status for own in results]),
        diagnosis=" ".join(own.diagnosis for own in results if own.diagnosis),
    )


def _inside(directory: Path | None) -> Any:
    """Return how to name the folder of a stage."""
    return lambda name: None if directory is None else directory / name


class _Desk:
    """Where candidates get their bins and their marks."""

    def __init__(
        self,
        train: Sequence[Sample],
        validation: Sequence[Sample],
        question: Question,
        training: TrainingOptions,
        *,
        channel: str,
        staterror: bool,
    ) -> None:
        self.samples, self.question, self.training = (train, validation), question, training
        self.named: dict[str, Any] = {"name": channel, "staterror": staterror}
        self.shared: dict[str, Any] = {
            "poi": question.poi,
            "others": question.others,
            "staterror": staterror,
            "minimum_events": training.minimum_events,
        }
        self.score = log_objective(
            training, others=question.others, parameters=question.parameters, poi=question.poi
        )

    def seen(self, net: Network) -> list[tuple[ObservedSample, ...]]:
        """Return training and validation samples as a network sees them."""
        return [observe(net, part) for part in self.samples]

    def curve(self, seen: Sequence[Sequence[ObservedSample]]) -> BinCurve:
        """Return the number of bins that an observable is worth."""
        return number_of_bins(seen[0], seen[1], **self.shared)

    def edges(
        self, seen: Sequence[Sequence[ObservedSample]], bins: int
    ) -> Float[np.ndarray, " edges"]:
        """Return the best bins of an observable."""
        return best_bins(
            seen,
            self.score,
            bins=bins,
            budget=self.training.search,
            name=self.named["name"],
            **self.shared,
        ).edges

    def with_bins(self, trees: BoostedTrees, bins: int) -> BoostedTrees:
        """Return trees with their best bins, or with the reason why they have none."""
        try:
            edges = self.edges([observe_trees(trees, part) for part in self.samples], bins)
        except InputError as error:  # too few distinct values
            return dataclasses.replace(trees, status=str(error))
        return dataclasses.replace(trees, edges=tuple(map(float, edges)))

    def candidate(
        self,
        name: str,
        net: Network,
        edges: Float[np.ndarray, " edges"],
        seen: Sequence[Sequence[ObservedSample]],
    ) -> Candidate:
        """Return a candidate, measured on held-out events."""
        edges = np.asarray(edges, seen[0][0].nominal.x.dtype)
        own, both = (hard_channel(part, edges, **self.named) for part in (seen[1], pooled(seen)))
        # a bin is poor if both splits together are: the bins were searched on both
        poor, poorer = (float(self.question.poverty(part)) for part in (both, own))
        metric = float(self.score(own)) + self.question.penalty * (poor - poorer)
        return Candidate(net, edges, name, metric if np.isfinite(metric) else float("inf"))
