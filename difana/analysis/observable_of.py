"""The trained observable of a result folder: its network, its bins, and what they were made for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana._typing import Network
from difana.analysis.config import AnalysisConfig
from difana.analysis.network import new_network
from difana.analysis.read import config_of
from difana.data import Events, Sample
from difana.nn import load_weights


@dataclasses.dataclass(frozen=True)
class TrainedObservable:
    """What a result says of events: the score of its network, and the bin of the score.

    Attributes:
        net: The network, ``net(events.inputs) -> [events, 1]``.
        edges: Edges of its bins.
        config: The configuration of the run.
        summary: All of ``result.json``.
    """

    net: Network
    edges: Float[np.ndarray, " edges"]
    config: AnalysisConfig
    summary: Mapping[str, Any]


def observable_of(result: str | Path) -> TrainedObservable:
    """Return the trained observable of a result folder.

    Args:
        result: A folder that `run` wrote.

    Raises:
        InputError: If it is no result, or a file in it is damaged.
        ConfigError: If its configuration is none of this version.

    Example:
        >>> observable_of("nowhere")
        Traceback (most recent call last):
        difana._errors.InputError: no result in 'nowhere': there is no file result.json...
    """
    folder = Path(result)
    summary = _summary(folder)
    config = config_of(summary["config"], path=folder / "result.json")
    return TrainedObservable(
        net=network_of(config, folder / "weights.eqx"),
        edges=np.asarray(summary["edges"], float),
        config=config,
        summary=summary,
    )


def network_of(config: AnalysisConfig, path: Path) -> Network:
    """Return the network of a configuration with the weights of a file."""
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
    like = new_network(config.network, [Sample(event, name="any")], key=jax.random.key(0))
    return load_weights(path, like)


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
    missing = [
        key
        for key in ("config", "edges", "region")
        if not isinstance(found, dict) or key not in found
    ]
    if missing:
        raise InputError(f"'{path}' holds no {missing[0]}: it is no result of 'difana run'")
    return found
