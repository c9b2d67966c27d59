"""What an unbinned method looks at before it trains: events far off, scale, numbers of events."""

from __future__ import annotations

import warnings
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from difana._errors import InputError
from difana.nn import location_and_scale
from difana.nn.standardised import far_rows
from difana.unfold.status import UnfoldStatus

_OTHER_SCALE = np.log(10.0)
_FEWEST = 2  # one event to train with, one held out


def enough_events(problem: Any) -> None:
    """Raise ``InputError`` unless something is left to train with beside the held-out events."""
    sizes = {
        "simulated events inside pass_gen": np.sum(np.asarray(problem.pass_gen)),
        "simulated events inside pass_reco": np.sum(np.asarray(problem.pass_reco)),
        "data events": len(problem.data),
    }
    for name, size in sizes.items():
        if size < _FEWEST:
            raise InputError(
                f"{int(size)} {name}: a training with held-out events needs at least {_FEWEST}"
            )


def far_events(problem: Any) -> int:
    """Return the flag of events far from all others; warn and name them."""
    parts = {
        "gen": (problem.gen, problem.pass_gen, problem.names),
        "reco": (problem.reco, problem.pass_reco, ()),
        "data": (problem.data, None, ()),
        "background": (problem.background, None, ()),
    }
    found = []
    for name, (values, mask, columns) in parts.items():
        if values is None or np.ndim(values) != 2:
            continue
        rows = np.asarray(values, np.float64)
        weights = np.ones(len(rows)) if mask is None else np.asarray(mask, float)
        if not weights.any():
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            location_and_scale(rows, weights, columns=columns, what=f"{name}: observable")
        found += [str(one.message) for one in caught]
    for text in found:
        warnings.warn(text, stacklevel=3)
    return int(UnfoldStatus.OUTLIER) if found else 0


def quiet_moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of columns; ``far_events`` has said what is odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean, std = location_and_scale(features)
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)


def without_far(problem: Any) -> tuple[Any, np.ndarray]:
    """Return the problem in which few events far from all others count nothing.

    A network extrapolates to them, and one weight of its exponential could outweigh all others.

    Returns:
        The problem, and which simulated events keep their simulated weight.
    """
    far = np.zeros(len(problem.gen), bool)
    for values, mask in ((problem.gen, problem.pass_gen), (problem.reco, problem.pass_reco)):
        if np.ndim(values) == 2:
            rows = np.flatnonzero(np.asarray(mask))
            far[rows] |= _few(far_rows(np.asarray(values)[rows]))
    if far.any():
        weights = [jnp.where(far, 0.0, w) for w in (problem.gen_weights, problem.reco_weights)]
        problem = eqx.tree_at(lambda p: (p.gen_weights, p.reco_weights), problem, weights)
    for name in ("data", "background"):
        values = getattr(problem, name)
        if values is None or np.ndim(values) != 2:
            continue
        other = _few(far_rows(values))
        if other.any():
            weights = jnp.where(other, 0.0, getattr(problem, f"{name}_weights"))
            where = (lambda p: p.data_weights) if name == "data" else (
                lambda p: p.background_weights)  # fmt: skip
            problem = eqx.tree_at(where, problem, weights)
    return problem, far


def _few(far: np.ndarray) -> np.ndarray:
    """Return the rows if they are few: many of them are the tail of a distribution."""
    return far & (far.sum() <= max(1e-3 * len(far), 1))


def to_scale(problem: Any) -> tuple[Any, float]:
    """Return the problem with a simulation scaled to the data where it is of another scale.

    Weights that were never scaled to the yield (1e-6, 1e6) would run into the cap, and events that
    keep their simulated weight (missed ones, fakes) would not be of the size of the others.

    Returns:
        The problem, and the logarithm of the factor on its simulation; 0 where nothing was done.
    """
    data = np.sum(np.asarray(problem.data_weights, np.float64))
    if problem.background_weights is not None:
        data = data - np.sum(np.asarray(problem.background_weights, np.float64))
    seen = np.where(np.asarray(problem.pass_reco), np.asarray(problem.reco_weights, np.float64), 0)
    factor = data / np.sum(seen)
    if not np.isfinite(factor) or factor <= 0 or abs(np.log(factor)) < _OTHER_SCALE:
        return problem, 0.0
    warnings.warn(
        f"the simulation has a yield of {np.sum(seen):g} at detector level, the data {data:g}: its"
        f" weights are scaled by {factor:g} before the unfolding. Scale them to the luminosity of"
        " the data, so that fakes and missed events have their expected yields",
        stacklevel=3,
    )
    scaled = [
        jnp.asarray(np.asarray(w, np.float64) * factor, jnp.result_type(float))
        for w in (problem.gen_weights, problem.reco_weights)
    ]
    problem = eqx.tree_at(lambda p: (p.gen_weights, p.reco_weights), problem, scaled)
    return problem, float(np.log(factor))
