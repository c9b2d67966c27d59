"""What was trained, read back from the folder of a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from difana._errors import DifanaError, InputError
from difana.analysis._parts import fold_folders, part_names
from difana.analysis.candidates import FILES, Candidate, Observable
from difana.analysis.config import AnalysisConfig
from difana.analysis.cuts import uncut
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.folds import CrossFitted, cross_fitted
from difana.analysis.observable_of import TrainedObservable, network_of, observables_of
from difana.analysis.optimised import Optimised
from difana.analysis.trees import FILE, BoostedTrees
from difana.config import digest
from difana.train import read_history


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run trained.

    Attributes:
        optimised: Networks and edges.
        config: The configuration of the run.
        digest: Short hash of networks and edges.
    """

    optimised: Optimised | CrossFitted
    config: AnalysisConfig
    digest: str


def trained_of(result: str | Path, *, allow_code: bool = False) -> Trained:
    """Return what was trained in a result folder; weights are plain numbers, nothing is executed.

    Args:
        result: A folder that `run` wrote.
        allow_code: Import code that its configuration names, as in `read_config`.

    Raises:
        InputError: If it is no result, a file in it is damaged, or its files are of several runs.
        ConfigError: If its configuration is none of this version.
    """
    folder, own = Path(result), observables_of(result, allow_code=allow_code)
    history = read_history(folder / "history.jsonl")
    config, training = own[0].config, own[0].summary["training"]
    parts = [
        _optimised([one for one in own if one.fold == f], folder, inside, row, records)
        for f, (inside, row, records) in enumerate(
            zip(
                fold_folders(config.folds),
                training["folds"] if config.folds else [training],
                _by_fold(history, config.folds),
                strict=True,
            )
        )
    ]
    found = cross_fitted(tuple(parts)) if config.folds else parts[0]
    return Trained(found, config, "+".join(map(digest_of, parts)))


def _by_fold(history: Sequence[dict[str, Any]], folds: int) -> list[Sequence[dict[str, Any]]]:
    """Return the records of each fold."""
    if not folds:
        return [history]
    return [[r for r in history if r.get("fold") == f] for f in range(1, folds + 1)]


def _optimised(
    own: Sequence[TrainedObservable],
    folder: Path,
    inside: str,
    training: Any,
    history: Sequence[dict[str, Any]],
) -> Optimised:
    """Return what one training found, of its row in ``result.json`` and its weights."""
    config, folder = own[0].config, folder / inside
    needed = ("edges", "bandwidths", "bits", "diagnosis", "digest", "baselines", "trees")
    missing = [key for key in needed if key not in training]
    if missing:
        raise InputError(f"'{folder / 'result.json'}' holds no training.{missing[0]}: run it again")
    names = [one.region for one in own]
    places = dict(zip(names, part_names("region", len(names)), strict=True))
    try:
        candidates = tuple(
            _candidate(config, folder, row, places) for row in training["candidates"]
        )
        optimised = Optimised(
            observables=tuple(
                Observable(one.net, np.asarray(training["edges"][one.region], float), one.region)
                for one in own
            ),
            baselines=tuple(
                network_of(config, folder / places[name] / "weights_baseline.eqx", kind)
                for name, kind in training["baselines"].items()
            ),
            scores=_scores(candidates),
            candidates=candidates,
            chosen=str(training["chosen"]),
            bandwidths=tuple(float(training["bandwidths"][name]) for name in names),
            history=tuple(history),
            status=int(training["bits"]),
            diagnosis=str(training["diagnosis"]),
            trees=tuple(_trees(folder / places[n], said) for n, said in training["trees"].items()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DifanaError):
            raise
        raise InputError(
            f"'{folder / 'result.json'}', training.candidates: {error!r}; run it again"
        ) from error
    if digest_of(optimised) != training["digest"]:
        raise InputError(
            f"the weights in '{folder}' are not those of its result.json: they were put there by "
            "hand, or changed; run the analysis again"
        )
    return optimised


def _scores(candidates: Sequence[Candidate]) -> tuple[EfficientScore, ...]:
    """Return the efficient scores of the first candidate that is made of them."""
    for one in candidates:
        nets = [uncut(own.net) for own in one.observables]
        scores = tuple(net for net in nets if isinstance(net, EfficientScore))
        if len(scores) == len(nets):
            return scores
    return ()


def digest_of(optimised: Optimised) -> str:
    """Return a short hash of networks and edges."""
    nets = [own.net for own in optimised.observables]
    nets += [*optimised.baselines]
    nets += [one.net for own in optimised.candidates for one in own.observables]
    text = "".join(trees.text for trees in optimised.trees).encode()
    edges = [np.asarray(own.edges, float) for own in optimised.observables]
    return digest(eqx.filter(nets, _is_stored), *edges, np.frombuffer(text, np.uint8))[:12]


def _trees(folder: Path, said: Any) -> BoostedTrees:
    """Return the boosted trees of a trained region."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
        edges = tuple(map(float, said["edges"]))
        found = float(said["held_out"])
        return BoostedTrees(text, int(said["rounds"]), found, edges, str(said["status"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read the trees of '{folder}': {error!r}; run it again") from error


def _is_stored(leaf: Any) -> bool:
    return hasattr(leaf, "shape")


def _candidate(
    config: AnalysisConfig, folder: Path, row: Mapping[str, Any], places: Mapping[str, str]
) -> Candidate:
    """Return a candidate as ``result.json`` and the files of its weights tell."""
    metric, error = (
        float("inf") if row[key] is None else float(row[key])
        for key in ("held_out", "held_out_error")
    )
    name = str(row["name"])
    observables = tuple(
        Observable(
            network_of(config, folder / places[region] / FILES[name], said["network"]),
            np.asarray(said["edges"], float),
            region,
        )
        for region, said in row["regions"].items()
    )
    return Candidate(observables, name, metric, error)
