"""What was trained, read back from the folder of a result."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from difana._errors import InputError
from difana.analysis.config import AnalysisConfig
from difana.analysis.observable_of import network_of, observable_of
from difana.analysis.optimise import Optimised
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

    optimised: Optimised
    config: AnalysisConfig
    digest: str


def trained_of(result: str | Path) -> Trained:
    """Return what was trained in a result folder; weights are plain numbers, nothing is executed.

    Args:
        result: A folder that `run` wrote.

    Raises:
        InputError: If it is no result, a file in it is damaged, or its files are of several runs.
        ConfigError: If its configuration is none of this version.
    """
    folder, own = Path(result), observable_of(result)
    training = own.summary.get("training")
    needed = ("edges", "bandwidth", "bits", "diagnosis", "digest")
    missing = [key for key in needed if not isinstance(training, dict) or key not in training]
    if missing or not isinstance(training, dict):
        raise InputError(f"'{folder / 'result.json'}' holds no training.{missing[0]}: run it again")
    optimised = Optimised(
        net=own.net,
        edges=jnp.asarray(training["edges"], float),
        baseline_net=network_of(own.config, folder / "weights_baseline.eqx"),
        bandwidth=float(training["bandwidth"]),
        history=tuple(read_history(folder / "history.jsonl")),
        status=int(training["bits"]),
        diagnosis=str(training["diagnosis"]),
    )
    found = digest_of(optimised)
    if found != training["digest"]:
        raise InputError(
            f"the weights in '{folder}' are not those of its result.json: they were put there by "
            "hand, or changed; run the analysis again"
        )
    return Trained(optimised, own.config, found)


def digest_of(optimised: Optimised) -> str:
    """Return a short hash of networks and edges."""
    nets = eqx.filter((optimised.net, optimised.baseline_net), eqx.is_array)
    return digest(nets, np.asarray(optimised.edges, float))[:12]
