"""A model with other settings of its parameters: nothing is built again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood.model import Model
from difana.likelihood.structure import with_poi


def model_with(
    model: Model,
    *,
    poi: str | None = None,
    fixed: Mapping[str, float | None] | None = None,
    free: Sequence[str] = (),
    init: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    clip: bool | None = None,
) -> Model:
    """Return the model with other settings of some parameters.

    A parameter is named as in ``model.parameters``; the name of a modifier with one parameter a
    bin stands for all of them.

    Args:
        model: The model; it is not changed.
        poi: Another parameter of interest.
        fixed: Parameters held in every fit, at a value or (None) where they start.
        free: Parameters held so far that fits may vary.
        init: Starting values; those of held parameters are the values they are held at.
        bounds: Lower and upper bounds; infinite ones are allowed. A starting value outside moves
            to the nearest bound unless ``init`` or ``fixed`` gives it.
        clip: Bend yields of samples that shifts would make negative to 1e-5 events in their bin.
            Without, such a model is flagged: the likelihood has no meaning there.

    Raises:
        ModelError: If there is no such parameter, or a value is not finite or outside its bounds.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([12.0], (NormFactor("mu"), NormFactor("k")), name="signal")
        >>> model = build_model([Channel((signal,), name="SR")])
        >>> other = model_with(model, poi="k", fixed={"mu": 2.0}, bounds={"k": (0.0, 3.0)})
        >>> other.structure.poi, other.fixed.tolist(), other.init.tolist(), other.upper.tolist()
        ('k', [True, False], [2.0, 1.0], [10.0, 3.0])
    """
    structure = model.structure
    if poi is not None:
        if len(entries_of(model, poi)) > 1 or poi not in model.parameters:
            raise ModelError(
                f"'{poi}' has one parameter a bin; one of them can be the parameter of interest, "
                f"such as '{model.parameters[entries_of(model, poi)[0]]}'"
            )
        structure = with_poi(structure, poi)
    start = np.array(model.init)
    lower, upper = np.array(model.lower), np.array(model.upper)
    for name, (low, high) in (bounds or {}).items():
        if not low < high:  # also for NaN
            raise ModelError(f"the bounds of '{name}' must rise, not {low:g} to {high:g}")
        if math.inf in (low, -high):
            raise ModelError(f"the bounds of '{name}', {low:g} to {high:g}, leave no value")
        where = entries_of(model, name)
        lower[where], upper[where] = low, high
        start[where] = np.clip(start[where], low, high)
    held = structure.fixed.copy()
    for name in free:
        held[entries_of(model, name)] = False
    given: dict[str, Any] = dict(init or {})
    for name, value in (fixed or {}).items():
        held[entries_of(model, name)] = True
        if value is not None:
            if given.get(name, value) != value:
                raise ModelError(f"'{name}' cannot be held at {value:g} and at {given[name]:g}")
            given[name] = value
    for name, value in given.items():
        where = entries_of(model, name)
        if not math.isfinite(value):
            raise ModelError(f"'{name}' cannot be {value}: give a finite number")
        low, high = lower[where].max(), upper[where].min()
        if not low <= value <= high:
            raise ModelError(
                f"'{name}' cannot be {value:g}, outside its bounds {low:g} to {high:g}"
            )
        start[where] = value
    if (held != structure.fixed).any():
        structure = dataclasses.replace(structure, fixed=held)
    if clip is not None and clip != structure.clip:
        structure = dataclasses.replace(structure, clip=clip)
    start, lower, upper = jax.device_put((start, lower, upper))
    return dataclasses.replace(model, init=start, lower=lower, upper=upper, structure=structure)


def with_yields(model: Model, yields: Mapping[tuple[str, str], Float[Array, " bins"]]) -> Model:
    """Return the model with other nominal yields: nothing is rebuilt or compiled again.

    Args:
        model: The model; it is not changed.
        yields: Maps ``(channel, sample)`` to the yields of its bins; they may be traced.

    Raises:
        ModelError: If a channel or sample does not exist.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([12.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal,), name="SR")])
        >>> with_yields(model, {("SR", "signal"): [5.0]}).nominal.tolist()
        [5.0]
    """
    starts = {
        (channel.name, template.name): (template.start, channel.bins)
        for channel in model.structure.channels
        for template in channel.templates
    }
    nominal = model.nominal
    for key, values in yields.items():
        if key not in starts:
            raise ModelError(f"no template {key}; there are {sorted(starts)}")
        start, bins = starts[key]
        values = jnp.asarray(values, nominal.dtype)
        if values.shape != (bins,):
            raise ModelError(f"yields of {key} have shape {values.shape}, not ({bins},)")
        nominal = nominal.at[start : start + bins].set(values)
    return dataclasses.replace(model, nominal=nominal)


def entries_of(model: Model, name: str) -> np.ndarray:
    """Return the positions of a parameter, or of all parameters of a modifier.

    Raises:
        ModelError: If there is none of that name.
    """
    if name in model.parameters:
        return np.array([model.parameters.index(name)])
    for modifier, start, size, _ in model.structure.sets:
        if modifier == name:
            return np.arange(start, start + size)
    known = [*model.parameters, *(entry[0] for entry in model.structure.sets)]
    raise ModelError(f"no parameter '{name}'.{nearest(name, known)}")
