"""The recipe: classification, the efficient score, descent on the objective; the best is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from difana._errors import ConfigError
from difana._status import joined
from difana._typing import Network
from difana.analysis._parts import part_names
from difana.analysis.candidates import (
    CROSS_ENTROPY,
    DESCENT,
    GIVEN,
    SCORE,
    SLICED,
    breaks_of,
    chosen_of,
)
from difana.analysis.classified import (
    Classified,
    category_of,
    classify,
    joint_scores,
    with_others,
)
from difana.analysis.cuts import behind_cuts, check_starts, cut_scales
from difana.analysis.descent import descend, median_width
from difana.analysis.desk import Desk
from difana.analysis.interests import pois_of
from difana.analysis.number_of_bins import BinCurve
from difana.analysis.optimised import Optimised
from difana.analysis.options import CutOptions, NetworkOptions, TrainingOptions
from difana.analysis.own_parts import objective_of
from difana.analysis.question import question_of
from difana.analysis.region_events import RegionEvents
from difana.analysis.trees import BoostedTrees, check_trees, train_trees
from difana.analysis.unrolled import check_second, unroll
from difana.data import Sample
from difana.likelihood import Channel, Parameter
from difana.losses import ScorePlan


def optimise(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    poi: str | Sequence[str] = "mu",
    channel: str = "SR",
    staterror: bool = True,
    directory: Path | None = None,
    resume: bool | Literal["same"] = True,
    progress_bar: bool = True,
    fingerprint: str = "",
    mesh: Mesh | None = None,
    baseline: Network | None = None,
    edges: Float[ArrayLike, " edges"] | None = None,
    cuts: Sequence[CutOptions] = (),
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
        cuts: Cuts whose values are trained with the edges; all candidates start from their
            starting values.

    Raises:
        ConfigError: If the objective is unknown or there are fewer than two bins.
        InputError: If boosted trees are asked for and cannot be trained, or cuts let no signal or
            no background pass where they start.
    """
    own = RegionEvents(channel, train=tuple(train), validation=tuple(validation), pois=pois_of(poi))
    return optimise_regions(
        [own],
        network=network,
        training=training,
        key=key,
        others=others,
        parameters=parameters,
        poi=poi,
        staterror=staterror,
        directory=directory,
        resume=resume,
        progress_bar=progress_bar,
        fingerprint=fingerprint,
        mesh=mesh,
        baselines=None if baseline is None else [baseline],
        edges=None if edges is None else [edges],
        cuts=cuts,
    )


def optimise_regions(
    regions: Sequence[RegionEvents],
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    bins: Sequence[int | str] | None = None,
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    poi: str | Sequence[str] = "mu",
    others_fixed: bool = False,
    staterror: bool = True,
    directory: Path | None = None,
    resume: bool | Literal["same"] = True,
    progress_bar: bool = True,
    fingerprint: str = "",
    mesh: Mesh | None = None,
    baselines: Sequence[Network] | None = None,
    edges: Sequence[Float[ArrayLike, " edges"]] | None = None,
    cuts: Sequence[CutOptions] = (),
) -> Optimised:
    """Find observables and binnings of several regions for one objective, as `optimise` does it.

    Each region has networks of its own for cross-entropy and score; the efficient scores know the
    information of all regions (`jointly`). Bins are searched one region after the other, given
    those of the others, and all networks and edges descend together on the objective of the
    simultaneous likelihood. The candidates are the same in all regions.

    Args:
        regions: Training and held-out events of each, which share no event.
        network: Size of the networks.
        training: Steps, rates, ...
        key: Key of weights and batches.
        bins: Number of bins, or ``"auto"``, of each; ``training.bins`` if left out.
        others: Further channels, constant.
        parameters: Settings of parameters, as in ``build_model``.
        poi: Parameter of interest; what it multiplies is signal. Or several: the sum of their
            objectives is minimised, or that of ``training.objective_poi``; the efficient score of
            a region is that of the first of its ``pois``, the others profiled.
        others_fixed: Hold the other parameters of interest in the fits for one.
        staterror: Include the statistical uncertainty of the simulation.
        directory: Folder of the checkpoints; None for none.
        resume: As in `optimise`.
        progress_bar: Show progress.
        fingerprint: As in `optimise`.
        mesh: Devices to spread the batches over.
        baselines: A network trained before for each; the first stage is left out.
        edges: Edges of these, from which the descent starts.
        cuts: As in `optimise`; their values are those of each region.

    Raises:
        ConfigError: If the objective is unknown or there are fewer than two bins.
        InputError: If boosted trees are asked for and cannot be trained, or cuts let no signal or
            no background pass where they start.
    """
    for own in regions if training.trees else ():
        check_trees(own.train)
    objective_of(training.objective)
    wanted = [training.bins] * len(regions) if bins is None else list(bins)
    for number in wanted:
        if isinstance(number, int) and number < 2:
            raise ConfigError(f"{number} bin(s): an observable needs at least two")
    scored = training.start == "score" and edges is None
    if (second := training.second_observable) is not None:
        if not scored:
            raise ConfigError("SecondObservable stands beside the efficient score: 'Start: score'")
        for own in regions:
            check_second(second, ScorePlan.of(own.train, pois=own.pois))
    descent_key = jax.random.split(key, 3)[2]
    settings: dict[str, Any] = {"resume": resume, "progress_bar": progress_bar, "mesh": mesh}
    inside, names = _inside(directory), part_names("region", len(regions))
    trained: list[Classified] = []
    for r, own in enumerate(regions):
        if own.category > 0:  # the network of the first category is that of all
            first = [one.group for one in regions].index(own.group)
            trained.append(Classified(category_of(trained[first].baseline, own), None, ()))
            continue
        trained.append(
            classify(
                own,
                network=network,
                training=training,
                key=key if r == 0 else jax.random.fold_in(key, r),
                poi=poi,
                inside=lambda stage, r=r: inside(Path(names[r], stage)),
                baseline=None if baselines is None else baselines[r],
                scored=scored and not own.classes,
                **settings,
            )
        )
    results = [(names[r], one) for r, own in enumerate(trained) for one in own.results]
    nets: dict[str, tuple[Network, ...]] = {CROSS_ENTROPY: tuple(own.baseline for own in trained)}
    scores, second = joint_scores(trained, regions, parameters), training.second_observable
    if scores:
        if second is not None:
            sliced = {
                r: unroll(score, regions[r].train, second=second, slices=training.slices)
                for r, score in scores.items()
            }
            nets[SLICED] = with_others(nets[CROSS_ENTROPY], sliced)
        nets[SCORE] = with_others(nets[CROSS_ENTROPY], scores)
    scales = [cut_scales(cuts, own.train) for own in regions] if cuts else []
    if cuts:
        columns = regions[0].train[0].nominal.columns
        nets = {n: tuple(behind_cuts(net, cuts, columns) for net in own) for n, own in nets.items()}
        for net, own in zip(nets[CROSS_ENTROPY], regions, strict=True):
            check_starts(net, cuts, own.train, pois=own.pois)
    question = question_of(
        training, others=others, parameters=parameters, poi=poi, others_fixed=others_fixed
    )
    desk = Desk(regions, question, training, staterror=staterror)
    curves: dict[str, list[BinCurve | None]] = {}
    if edges is None:
        seen = {name: desk.seen(own) for name, own in nets.items()}
        breaks = {name: [breaks_of(net) for net in own] for name, own in nets.items()}
        curves = {name: desk.curves(own, wanted, breaks[name]) for name, own in seen.items()}
        numbers = [_agreed(r, asked, curves) for r, asked in enumerate(wanted)]
        found = {name: desk.edges(own, numbers, breaks[name]) for name, own in seen.items()}
        candidates = [desk.candidate(name, nets[name], found[name], seen[name]) for name in nets]
    else:
        given, own = [np.asarray(e, float) for e in edges], nets[CROSS_ENTROPY]
        candidates = [desk.candidate(GIVEN, own, given, desk.seen(own))]
    if training.steps:
        agreed = dataclasses.replace(training, trees=False)
        moved, result = descend(
            candidates[-1].observables,
            regions,
            question=question,
            training=training,
            key=descent_key,
            staterror=staterror,
            scales=scales,
            checkpoint=inside(training.objective.replace(":", ".")),
            fingerprint=" ".join(map(str, (fingerprint, network, agreed, wanted))),
            **settings,
        )
        results.append(("", result))
        own = tuple(one.net for one in moved)
        candidates.append(
            desk.candidate(DESCENT, own, [one.edges for one in moved], desk.seen(own))
        )
    trees: tuple[BoostedTrees, ...] = ()
    if training.trees:
        trees = tuple(
            train_trees(own.train, own.validation, poi=poi, seed=training.seed) for own in regions
        )
        trees = desk.with_bins(trees, [one.bins for one in candidates[0].observables])
    candidates = desk.with_errors(candidates)
    winner = chosen_of(candidates)
    said = {name: own.name for name, own in zip(names, regions, strict=True) if name}
    return Optimised(
        observables=winner.observables,
        baselines=nets[CROSS_ENTROPY],
        # what is known of all regions together needs the scores of all
        scores=tuple(scores.values()) if len(scores) == len(regions) else (),
        candidates=candidates,
        chosen=winner.name,
        curves=tuple(
            {name: own for name, each in curves.items() if (own := each[r]) is not None}
            for r in range(len(regions))
        ),
        trees=trees,
        bandwidths=tuple(
            median_width(own.edges) * training.bandwidth[1] for own in winner.observables
        ),
        history=tuple(
            {**record, "region": said[name]} if name in said else record
            for name, one in results
            for record in one.history
        ),
        status=joined([0, *(own.status for _, own in results)]),
        diagnosis=" ".join(own.diagnosis for _, own in results if own.diagnosis),
    )


def _agreed(place: int, asked: int | str, curves: Mapping[str, Sequence[BinCurve | None]]) -> int:
    """Return the number of bins of a region: the largest that an observable is worth."""
    if isinstance(asked, int):
        return asked
    return max(curve.chosen for own in curves.values() if (curve := own[place]) is not None)


def _inside(directory: Path | None) -> Callable[[str | Path], Path | None]:
    """Return how to name the folder of a stage."""
    return lambda name: None if directory is None else directory / name
