"""Which input matters: all measures together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.analysis.gradient_importance import gradient_importance, stretch_importance
from difana.analysis.shuffle_importance import shuffle_importance
from difana.data import Sample
from difana.likelihood import Channel


@dataclasses.dataclass(frozen=True)
class Importance:
    """How much each input matters; the measures have different units, compare within a row.

    Attributes:
        columns: Names of the inputs.
        gradient: Mean change of the observable per standard deviation of the input, ``[features]``.
        stretch: Derivative of the score by the relative width of the input, ``[features]``.
        shuffled: Rise of the score when the input is shuffled among all events, ``[features]``.
        score: The score itself, in hard bins.
    """

    columns: tuple[str, ...]
    gradient: Float[np.ndarray, " features"]
    stretch: Float[np.ndarray, " features"] | None = None
    shuffled: Float[np.ndarray, " features"] | None = None
    score: float | None = None


def importance(
    net: Network,
    samples: Sequence[Sample],
    *,
    edges: Float[np.ndarray, " edges"] | None = None,
    objective: Callable[[Channel], Float[Array, ""]] | None = None,
    bandwidth: float | None = None,
    repeats: int = 1,
    seed: int = 0,
    name: str = "SR",
    staterror: bool = True,
) -> Importance:
    """Return all measures of which input matters.

    Args:
        net: Any callable PyTree; its first observable is used.
        samples: Samples with their variations, e.g. of the test split.
        edges: Bin edges of the observable; without them there are gradients only.
        objective: A differentiable function of a channel to be minimised, as `log_objective`
            gives it; needed with edges.
        bandwidth: Width of the kernel for the stretch; by default half the median inner bin.
        repeats: Shuffles of each input to average over.
        seed: Seed of the shuffles.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.

    Raises:
        InputError: If only one of edges and objective is given.
    """
    columns = samples[0].nominal.columns or tuple(
        f"x{j}" for j in range(samples[0].nominal.features.shape[1])
    )
    gradient = np.mean(gradient_importance(net, samples), axis=0)
    if (edges is None) != (objective is None):
        raise InputError("give edges and objective together, or neither of them")
    if edges is None or objective is None:
        return Importance(columns, gradient)
    edges = np.asarray(edges)
    inner = np.diff(edges[1:-1] if len(edges) > 3 else edges)
    width = 0.5 * float(np.median(inner)) if bandwidth is None else bandwidth
    binned = {"edges": edges, "name": name, "staterror": staterror}
    stretch = stretch_importance(net, samples, objective, bandwidth=width, **binned)
    compiled = eqx.filter_jit(objective)
    score, shuffled = shuffle_importance(
        net, samples, lambda own: float(compiled(own)), repeats=repeats, seed=seed, **binned
    )
    return Importance(columns, gradient, stretch, shuffled, score)
