"""Checks of what an unfolding is given: shapes, masks, weights, numbers that are not finite."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from difana._errors import InputError
from difana.data import Events
from difana.unfold._precision import held


def known(*values: Any) -> bool:
    """Return whether all values are numbers, not tracers."""
    return not any(isinstance(value, Tracer) for value in values)


def columns(values: Any, weights: Any) -> tuple[Any, Any]:
    """Return features with at least one column, and the weights of ``Events``."""
    if isinstance(values, Events):
        weights = values.weights if weights is None else weights
        values = values.features
    values = values if isinstance(values, Tracer) else np.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.complexfloating) or values.dtype.kind not in "fiubV":
        raise InputError(f"observables are of type {values.dtype}: give real numbers")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(float)
    if values.ndim == 0 or not len(values):
        raise InputError(f"events of shape {values.shape}: at least one event is needed")
    return (values[:, None] if values.ndim == 1 else values), weights


def mask(mask: Any, events: int, name: str) -> Any:
    """Return one boolean an event, or raise ``InputError``."""
    if mask is None:
        return np.ones(events, bool)
    mask = mask if isinstance(mask, Tracer) else np.asarray(mask)
    if mask.shape != (events,) or mask.dtype != bool:
        raise InputError(
            f"{name} has shape {mask.shape} and type {mask.dtype}; give one boolean for each of the"
            f" {events} events"
        )
    if known(mask) and not mask.any():
        raise InputError(f"{name} passes no event: check the selection that made it")
    return mask


def weights(weights: Any, events: int, name: str) -> Any:
    """Return one finite weight an event, or raise ``InputError``."""
    if weights is None:
        return np.ones(events)
    if np.iscomplexobj(weights):
        raise InputError(f"{name} are complex: give real numbers")
    weights = weights if isinstance(weights, Tracer) else np.array(weights, dtype=float)
    if weights.shape != (events,):
        raise InputError(f"{name} have shape {weights.shape}, but there are {events} events")
    if known(weights) and not np.isfinite(weights).all():
        first = int(np.argmin(np.isfinite(weights)))
        raise InputError(f"{name} are not finite, first at event {first}: drop or repair it")
    return weights


def total(weights: Any, mask: Any, name: str) -> None:
    """Raise ``InputError`` unless the chosen weights have a positive total."""
    if not known(weights, mask):
        return
    chosen = np.asarray(weights)[np.asarray(mask)]
    if not np.any(chosen):
        raise InputError(f"{name} are all zero: nothing is left to unfold")
    if chosen.sum() <= 0:
        raise InputError(
            f"{name} have a total of {chosen.sum():g}: it must be positive; add events or check the"
            " signs"
        )


def features(values: Any, mask: Any, name: str) -> Any:
    """Return the features with zeros outside the mask, after a check of those inside."""
    if mask is None:
        mask = np.ones(len(values), bool)
    if known(values, mask):
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1) & mask
        if bad.any():
            raise InputError(
                f"{name} is not finite in {bad.sum()} events, first in event {int(bad.argmax())};"
                " drop them, or mark them as failing in the mask of that level"
            )
    found = held(values, mask)
    shape = (-1, *(1,) * (values.ndim - 1))
    if isinstance(found, np.ndarray):
        return np.where(np.asarray(mask).reshape(shape), found, 0.0)
    return jnp.where(jnp.asarray(mask).reshape(shape), found, 0.0)


def same_columns(reco: Any, other: Any, name: str) -> None:
    """Raise ``InputError`` unless the other events have the columns of ``reco``."""
    if reco.shape[1:] != other.shape[1:]:
        raise InputError(
            f"{name} have columns of shape {other.shape[1:]}, reco of {reco.shape[1:]}: give the"
            " same observables in the same order"
        )


def same_events(gen: np.ndarray, reco: np.ndarray, events: int) -> None:
    """Raise ``InputError`` unless both levels are of the same events."""
    for name, ids in (("gen_ids", gen), ("reco_ids", reco)):
        if ids.shape != (events,):
            raise InputError(f"{name} have shape {ids.shape}, but there are {events} events")
    different = np.flatnonzero(gen != reco)
    if different.size:
        first = int(different[0])
        raise InputError(
            f"gen and reco are of different events in {different.size} rows, first in row {first}"
            f" (gen_ids {gen[first]}, reco_ids {reco[first]}): sort both by event number"
        )
