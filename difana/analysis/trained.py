"""What was trained, read back from the folder of a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from difana._errors import InputError
from difana.analysis.candidates import FILES, Candidate
from difana.analysis.config import AnalysisConfig
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.folds import CrossFitted, cross_fitted
from difana.analysis.observable_of import TrainedObservable, network_of, observables_of
from difana.analysis.optimise import Optimised
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
    training, history = own[0].summary.get("training"), read_history(folder / "history.jsonl")
    config = own[0].config
    if not config.folds:
        optimised = _optimised(own[0], folder, training, history)
        return Trained(optimised, config, digest_of(optimised))
    folds = tuple(
        _optimised(one, folder / f"fold_{f}", row, [r for r in history if r.get("fold") == f])
        for f, (one, row) in enumerate(zip(own, dict(training or {})["folds"], strict=True), 1)
    )
    return Trained(cross_fitted(folds), config, "+".join(map(digest_of, folds)))


def _optimised(
    own: TrainedObservable, folder: Path, training: Any, history: Sequence[dict[str, Any]]
) -> Optimised:
    """Return what one training found, of its row in ``result.json`` and its weights."""
    needed = ("edges", "bandwidth", "bits", "diagnosis", "digest", "chosen", "candidates")
    missing = [key for key in needed if not isinstance(training, dict) or key not in training]
    if missing or not isinstance(training, dict):
        raise InputError(f"'{folder / 'result.json'}' holds no training.{missing[0]}: run it again")
    try:
        candidates = tuple(_candidate(own.config, folder, row) for row in training["candidates"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"'{folder / 'result.json'}', training.candidates: {error!r}; run it again"
        ) from error
    scores = [one.net for one in candidates if isinstance(one.net, EfficientScore)]
    optimised = Optimised(
        net=own.net,
        edges=np.asarray(training["edges"], float),
        baseline_net=network_of(
            own.config, folder / "weights_baseline.eqx", training.get("baseline")
        ),
        score_net=scores[0] if scores else None,
        candidates=candidates,
        chosen=str(training["chosen"]),
        bandwidth=float(training["bandwidth"]),
        history=tuple(history),
        status=int(training["bits"]),
        diagnosis=str(training["diagnosis"]),
        trees=_trees(folder, training.get("trees")),
    )
    if digest_of(optimised) != training["digest"]:
        raise InputError(
            f"the weights in '{folder}' are not those of its result.json: they were put there by "
            "hand, or changed; run the analysis again"
        )
    return optimised


def digest_of(optimised: Optimised) -> str:
    """Return a short hash of networks and edges."""
    nets = (optimised.net, optimised.baseline_net, [own.net for own in optimised.candidates])
    text = b"" if optimised.trees is None else optimised.trees.text.encode()
    edges = np.asarray(optimised.edges, float)
    return digest(eqx.filter(nets, _is_stored), edges, np.frombuffer(text, np.uint8))[:12]


def _trees(folder: Path, said: Any) -> BoostedTrees | None:
    """Return the boosted trees of a result; None where there are none."""
    if said is None:
        return None
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
        edges = tuple(map(float, said["edges"]))
        found = float(said["held_out"])
        return BoostedTrees(text, int(said["rounds"]), found, edges, str(said["status"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read the trees of '{folder}': {error!r}; run it again") from error


def _is_stored(leaf: Any) -> bool:
    return hasattr(leaf, "shape")


def _candidate(config: AnalysisConfig, folder: Path, row: Mapping[str, Any]) -> Candidate:
    """Return a candidate as ``result.json`` and the file of its weights tell."""
    name, metric = str(row["name"]), row["held_out"]
    return Candidate(
        net=network_of(config, folder / FILES[name], row["network"]),
        edges=np.asarray(row["edges"], float),
        name=name,
        metric=float("inf") if metric is None else float(metric),
        error=float("inf") if row["held_out_error"] is None else float(row["held_out_error"]),
    )
