"""The trained observables of a result folder: networks, bins, and what they were made for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from difana._errors import DifanaError, InputError, nearest
from difana._typing import Network
from difana.analysis._parts import fold_folders, part_names
from difana.analysis.category import Category
from difana.analysis.config import AnalysisConfig
from difana.analysis.cuts import behind_cuts, uncut
from difana.analysis.efficient_score import EfficientScore, blank_score
from difana.analysis.network import network_for
from difana.analysis.own_code import check_recorded
from difana.analysis.read import config_of
from difana.analysis.unrolled import Unrolled
from difana.data import Events, Sample
from difana.losses import ScorePlan
from difana.nn import MeanOf, Parametrised, load_weights


@dataclasses.dataclass(frozen=True)
class TrainedObservable:
    """What a result says of events: the score of its network, and the bin of the score.

    Attributes:
        net: The network, ``net(events.inputs) -> [events, 1]``.
        edges: Edges of its bins.
        region: The region that it was trained for.
        fold: Number of its fold, from 0; 0 for one split.
        config: The configuration of the run.
        summary: All of ``result.json``.
    """

    net: Network
    edges: Float[np.ndarray, " edges"]
    region: str
    fold: int
    config: AnalysisConfig
    summary: Mapping[str, Any]


def observable_of(
    result: str | Path, *, region: str = "", allow_code: bool = False
) -> TrainedObservable:
    """Return the trained observable of a result folder.

    Args:
        result: A folder that `run` wrote.
        region: The trained region, where there are several.
        allow_code: Import code that its configuration names, as in `read_config`.

    Raises:
        InputError: If it is no result, or a file in it is damaged; if there are several.
        ConfigError: If its configuration is none of this version.

    Example:
        >>> observable_of("nowhere")
        Traceback (most recent call last):
        difana._errors.InputError: no result in 'nowhere': there is no file result.json...
    """
    found = observables_of(result, allow_code=allow_code)
    names = list(dict.fromkeys(own.region for own in found))
    if region and region not in names:
        listed = ", ".join(f"'{name}'" for name in names)
        hint = nearest(region, names) or f" There are {listed}."
        raise InputError(f"the result has no trained region '{region}'.{hint}")
    found = tuple(own for own in found if not region or own.region == region)
    if len({own.fold for own in found}) > 1:
        folds = len({own.fold for own in found})
        raise InputError(
            f"the result in '{result}' has {folds} folds (General: Split), each with a "
            "network of its own: observables_of returns them all"
        )
    if len(found) > 1:
        raise InputError(
            f"the result in '{result}' has {len(found)} trained regions: give region=..., one of "
            f"{names}"
        )
    return next(iter(found))


def observables_of(
    result: str | Path, *, allow_code: bool = False
) -> tuple[TrainedObservable, ...]:
    """Return the trained observables of all folds and, in each, of all trained regions.

    Args:
        result: A folder that `run` wrote.
        allow_code: Import code that its configuration names, as in `read_config`.

    Raises:
        InputError: As `observable_of`.
        ConfigError: As `observable_of`.
    """
    folder = Path(result)
    summary = _summary(folder)
    path = folder / "result.json"
    config = config_of(summary["config"], path=path, allow_code=allow_code)
    check_recorded(config, summary.get("code") or {}, path)
    left = {name: np.asarray(edges, float) for name, edges in summary["edges"].items()}
    found = []
    try:
        training = summary["training"]
        rows = training["folds"] if config.folds else [training]
        for (f, inside), own in zip(enumerate(fold_folders(config.folds)), rows, strict=True):
            chosen = next(c for c in own["candidates"] if c["name"] == own["chosen"])
            for name, edges in own["edges"].items():
                weights = folder / inside / _inside(name, own["edges"]) / "weights.eqx"
                net = network_of(config, weights, chosen["regions"][name]["network"])
                cuts = left[name]
                if config.folds:  # merged bins are left out
                    cuts = np.asarray(edges, float)[cuts.astype(int)]
                found.append(TrainedObservable(net, cuts, name, f, config, summary))
    except (KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
        if isinstance(error, DifanaError):
            raise
        said = f"training: {error!r}"
        if isinstance(error, KeyError):
            said = f"holds no training.{error.args[0]}"
        raise InputError(f"'{folder / 'result.json'}' {said}; run it again") from error
    return tuple(found)


def _inside(region: str, regions: Iterable[str]) -> str:
    """Return the name of the folder of a trained region."""
    names = list(regions)
    return part_names("region", len(names))[names.index(region)]


def described(net: Network) -> dict[str, Any]:
    """Return what `network_of` must know of a trained network beside the configuration.

    Args:
        net: A network that `optimise` trained.
    """
    net = uncut(net)
    if isinstance(net, Parametrised):
        return {**described(net.net), "kind": "parametrised", "parameters": net.theta.size}
    if isinstance(net, Unrolled):
        sliced = {"second": net.second, "slices": len(net.cuts) + 1}
        return {**described(net.score), "kind": "efficient score in slices", **sliced}
    if isinstance(net, Category):
        classes = {"classes": net.classes, "category": net.index}
        return {**described(net.net), "kind": "category", **classes}
    if isinstance(net, EfficientScore):
        plan = dataclasses.asdict(net.plan)
        return {"kind": "efficient score", "members": len(net.nets), "plan": plan}
    members = len(net.nets) if isinstance(net, MeanOf) else 1
    return {"kind": "classifier", "members": members}


def network_of(
    config: AnalysisConfig, path: Path, kind: Mapping[str, Any] | None = None
) -> Network:
    """Return the network of a configuration with the weights of a file.

    Args:
        config: The configuration.
        path: The weights.
        kind: What `described` said; a plain classifier if left out.

    Raises:
        InputError: If the weights are those of another network.
    """
    kind = {} if kind is None else kind
    cloud, columns = config.particles, config.columns
    particles = mask = None
    if cloud is not None:
        particles = jnp.zeros((1, cloud.maximum, len(config.channels)), jnp.float32)
        mask = jnp.ones((1, cloud.maximum), bool)
    features = jnp.zeros((1, len(columns)), jnp.float32)
    # its standardisation is stored with the weights: any event will do
    event = Events(
        features, jnp.ones(1), particles, mask, columns=columns, particle_columns=config.channels
    )
    members, plan = int(kind.get("members", 1)), None
    if "plan" in kind:
        stored = kind["plan"].items()
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in stored}
        plan = ScorePlan(**fields)
    outputs = int(kind.get("classes", 1)) if plan is None else plan.outputs
    own: dict[str, Any] = {}
    if (parameters := int(kind.get("parameters", 0))) > 0:
        own = {"mean": np.zeros(parameters), "std": np.ones(parameters)}
    start = network_for(config.network, [Sample(event, name="any")], outputs=outputs, **own)
    nets = tuple(start(jax.random.key(0)) for _ in range(members))
    whole: Network = nets[0] if members == 1 else MeanOf(nets)
    if parameters:
        whole = Parametrised(whole, jnp.zeros(parameters, jnp.float32))
    if plan is not None:
        whole = blank_score(nets, plan)
        if "second" in kind:
            cuts, ends = (np.zeros(n, np.float32) for n in (int(kind["slices"]) - 1, 2))
            whole = Unrolled(whole, cuts, ends, str(kind["second"]))
    elif "classes" in kind:
        whole = Category(whole, int(kind["category"]), outputs)
    return load_weights(path, behind_cuts(whole, config.cuts, columns))


def _summary(folder: Path) -> dict[str, Any]:
    """Return the content of ``result.json``."""
    path = folder / "result.json"
    if not path.is_file():
        raise InputError(
            f"no result in '{folder}': there is no file result.json; give the folder that "
            "'difana run --out' wrote"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    if isinstance(found, dict) and isinstance(grid := found.get("grid"), dict):
        names = ", ".join(str(own.get("folder")) for own in grid.get("points", ()))
        raise InputError(f"'{folder}' is a grid: give the folder of a point, one of {names}")
    missing = [
        key
        for key in ("config", "edges", "regions")
        if not isinstance(found, dict) or key not in found
    ]
    if missing:
        raise InputError(f"'{path}' holds no {missing[0]}: it is no result of 'difana run'")
    return found
