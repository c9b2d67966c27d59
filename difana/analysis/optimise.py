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

from difana._errors import ConfigError
from difana._status import joined
from difana._typing import Network
from difana.analysis.candidates import (
    CROSS_ENTROPY,
    DESCENT,
    GIVEN,
    SCORE,
    SLICED,
    Candidate,
    Desk,
    breaks_of,
    chosen_of,
)
from difana.analysis.descent import descend, median_width
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.fit_efficient_score import fit_efficient_score
from difana.analysis.number_of_bins import BinCurve
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.own_parts import objective_of
from difana.analysis.pretrain import pretrain, pretraining
from difana.analysis.question import question_of
from difana.analysis.trees import BoostedTrees, check_trees, train_trees
from difana.analysis.unrolled import check_second, unroll
from difana.data import Sample
from difana.likelihood import Channel, Parameter
from difana.losses import ScorePlan
from difana.train import AbstractTraining, TrainResult


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
       Held-out events are few: the efficient score stays unless another one is better by more
       than the statistical error of the difference.
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
    scored = training.start == "score" and edges is None
    if (second := training.second_observable) is not None:
        if not scored:
            raise ConfigError("SecondObservable stands beside the efficient score: 'Start: score'")
        check_second(second, ScorePlan.of(train, pois=(poi,)))
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
    if scored:
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
    desk = Desk(train, validation, question, training, channel=channel, staterror=staterror)
    curves: dict[str, BinCurve] = {}
    if edges is None:
        nets: dict[str, Any] = {CROSS_ENTROPY: baseline}
        if score is not None and second is not None:
            both = unroll(score, train, second=second, slices=training.slices)
            nets[SLICED] = both
        if score is not None:
            nets[SCORE] = score
        seen = {name: desk.seen(net) for name, net in nets.items()}
        bins = training.bins
        if bins == "auto":
            curves = {name: desk.curve(own, breaks_of(nets[name])) for name, own in seen.items()}
            bins = max(curve.chosen for curve in curves.values())
        found = {
            name: desk.edges(own, int(bins), breaks_of(nets[name])) for name, own in seen.items()
        }
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
    candidates = desk.with_errors(candidates)
    winner = chosen_of(candidates)
    return Optimised(
        net=winner.net,
        edges=winner.edges,
        baseline_net=baseline,
        score_net=score,
        candidates=candidates,
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
