"""The information of the parameters, from the scores of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from difana._errors import InputError
from difana.data import Sample
from difana.likelihood import Parameter

if TYPE_CHECKING:
    from difana.analysis.efficient_score import EfficientScore

_CHUNK = 1 << 16
_FIXED = 1e12  # what is known of a parameter that is held


def joint_information(
    scores: Sequence[EfficientScore],
    samples: Sequence[Sequence[Sample]],
    parameters: Sequence[Parameter],
) -> tuple[list[str], np.ndarray]:
    """Return the parameters of all regions and their information, constraints added once."""
    names = list(dict.fromkeys(name for score in scores for name in score.parameters))
    found = np.zeros((len(names), len(names)))
    for score, own in zip(scores, samples, strict=True):
        places = [names.index(name) for name in score.parameters]
        found[np.ix_(places, places)] += _information(score, own)
    pois = {poi for score in scores for poi in score.plan.pois}
    constrained = {v.name for own in samples for s in own for v in s.variations} - pois
    settings = {own.name: own for own in parameters}
    known = [_prior(settings.get(name)) if name in constrained else 0.0 for name in names]
    return names, found + np.diag(known)


def _prior(setting: Parameter | None) -> float:
    """Return the information of the constraint of a nuisance parameter."""
    if setting is None:
        return 1.0
    if setting.fixed:
        return _FIXED
    if setting.constraint == "none":
        return 0.0
    return 1.0 if setting.sigma is None else float(np.min(np.asarray(setting.sigma))) ** -2


def _information(raw: EfficientScore, samples: Sequence[Sample]) -> np.ndarray:
    """Return the information of one experiment at the reference point, without constraints."""
    plan, size = raw.plan, len(raw.parameters)
    scores: Callable = eqx.filter_jit(raw.scores)
    found = np.zeros((size, size))
    for sample, factor in plan.reference(samples):
        weights = factor * np.asarray(sample.nominal.weights, np.float64)
        for start in range(0, len(weights), _CHUNK):
            part = slice(start, start + _CHUNK)
            inputs = jax.tree.map(partial(_cut, part=part), sample.nominal.inputs)
            t = np.asarray(scores(inputs), np.float64)
            found += t.T @ (weights[part, None] * t)
    return found


def inverse_of(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the inverse of an information.

    Raises:
        InputError: If there is none: two parameters do the same.
    """
    try:
        covariance = np.linalg.inv(matrix)
    except np.linalg.LinAlgError as error:
        raise InputError(f"the information has no inverse: {_degenerate(matrix, names)}") from error
    if not np.isfinite(covariance).all() or not (np.diag(covariance) > 0).all():
        raise InputError(f"the information has no inverse: {_degenerate(matrix, names)}")
    return covariance


def _cut(leaf: Array, *, part: slice) -> Array:
    return leaf[part]


def _degenerate(matrix: np.ndarray, parameters: Sequence[str]) -> str:
    """Name the parameters that cannot be told apart."""
    values, vectors = np.linalg.eigh(matrix)
    worst = np.abs(vectors[:, 0])
    names = [parameters[int(i)] for i in np.argsort(-worst)[:3] if worst[i] > 0.1]
    return (
        f"{', '.join(names)} cannot be told apart (smallest eigenvalue {values[0]:.3g}); give a"
        " constraint to one of them, or leave it out"
    )
