"""Models as workspaces of pyhf."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError
from difana.likelihood._parameters import DEFAULTS
from difana.likelihood.formats.pyhf_json import with_auxiliary
from difana.likelihood.model import Model
from difana.likelihood.structure import ModifierLayout

_GAUSSIAN = ("normal", "gamma", "lumi")


def _modifier_spec(model: Model, layout: ModifierLayout, bins: int) -> dict[str, Any]:
    start, stop = layout.start, layout.start + bins
    data: Any = None
    if layout.kind == "normsys":
        data = {"hi": float(model.normsys_hi[start]), "lo": float(model.normsys_lo[start])}
    elif layout.kind == "histosys":
        data = {
            "hi_data": np.asarray(model.histosys_hi[start:stop], float).tolist(),
            "lo_data": np.asarray(model.histosys_lo[start:stop], float).tolist(),
        }
    elif layout.kind in ("staterror", "shapesys"):
        values = model.staterror if layout.kind == "staterror" else model.shapesys
        data = np.asarray(values[start:stop], float).tolist()
    return {"name": layout.name, "type": layout.kind, "data": data}


def _usual_constraint(model: Model, name: str, start: int, kind: str) -> None:
    """Refuse constraints that a workspace cannot hold."""
    s = model.structure
    found = np.flatnonzero(s.constrained == start)
    actual = "no" if not found.size else "a Poisson" if s.poisson[found[0]] else "a Gaussian"
    if found.size and getattr(s, "lognormal", np.zeros(0, bool))[found].any():
        actual = "a log-normal"
    usual = "no" if kind == "free" else "a Poisson" if kind == "poisson" else "a Gaussian"
    if actual != usual:
        raise ModelError(
            f"parameter '{name}' has {actual} constraint; a workspace of pyhf holds {usual} one "
            "there. Write HS3 instead"
        )


def _parameter_specs(model: Model) -> list[dict[str, Any]]:
    """Write the settings that differ from the defaults of pyhf."""
    init, lower, upper = (np.asarray(x, float) for x in (model.init, model.lower, model.upper))
    all_centers, all_widths = np.asarray(model.centers, float), np.asarray(model.widths, float)
    taus = np.asarray(model.constraint_scales()[1], float)
    constraint = {int(p): i for i, p in enumerate(model.structure.constrained)}
    specs = []
    for name, start, size, kind in model.structure.sets:
        entries = slice(start, start + size)
        default, low, high = DEFAULTS[kind]
        entry: dict[str, Any] = {}
        _usual_constraint(model, name, start, kind)
        if kind == "lumi" or (init[entries] != default).any():
            entry["inits"] = init[entries].tolist()
        if kind == "lumi" or (lower[entries] != low).any() or (upper[entries] != high).any():
            entry["bounds"] = np.stack([lower[entries], upper[entries]], axis=1).tolist()
        if kind != "free":
            own = slice(constraint[start], constraint[start] + size)
            centers, widths = all_centers[own], all_widths[own]
            if kind == "lumi" or (centers != default).any():
                entry["auxdata"] = (centers * taus[own]).tolist()
            if kind == "lumi":
                entry["sigmas"] = widths.tolist()
            elif kind == "normal" and (widths != 1.0).any():
                raise ModelError(
                    f"parameter '{name}' is constrained with width {widths[0]:g}; pyhf knows only "
                    "1: scale its templates instead"
                )
        fixed = model.structure.fixed[entries]
        if fixed.all():
            entry["fixed"] = True
        elif fixed.any():
            raise ModelError(
                f"some entries of parameter '{name}' are held and others not, which a workspace "
                "cannot hold"
            )
        if entry:
            specs.append({"name": name, **entry})
    return specs


def to_workspace(
    model: Model, data: Float[Array, " data"], *, measurement: str = "measurement"
) -> dict[str, Any]:
    """Write a model and its data as a pyhf workspace (version 1.0.0), ready for ``json.dump``.

    Interpolation codes are no part of a workspace: give those of the model, if they are not the
    default ones, to the reader too.

    Args:
        model: The model, with concrete numbers.
        data: Data vector: observed yields, and auxiliary data, which become the centres of the
            constraints (those of the model, if there are only yields).
        measurement: Name of the measurement.

    Raises:
        ModelError: If a number is not finite, or a constraint is one that pyhf does not know.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([5.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> to_workspace(model, model.data([4.0]))["observations"]
        [{'name': 'SR', 'data': [4.0]}]
    """
    if getattr(model.structure, "correlated", np.zeros(0)).size:
        raise ModelError(
            "the model has correlated constraints, which a workspace of pyhf cannot hold"
        )
    model = with_auxiliary(model, data)
    nominal = np.asarray(model.nominal, float)
    observed = np.asarray(data, float)
    channels, observations = [], []
    for channel in model.structure.channels:
        samples = [
            {
                "name": template.name,
                "data": nominal[template.start : template.start + channel.bins].tolist(),
                "modifiers": [
                    _modifier_spec(model, layout, channel.bins) for layout in template.modifiers
                ],
            }
            for template in channel.templates
        ]
        channels.append({"name": channel.name, "samples": samples})
        values = observed[channel.start : channel.start + channel.bins].tolist()
        observations.append({"name": channel.name, "data": values})
    config = {"poi": model.structure.poi or "", "parameters": _parameter_specs(model)}
    spec = {
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": measurement, "config": config}],
        "version": "1.0.0",
    }
    try:
        json.dumps(spec, allow_nan=False)
    except ValueError as error:
        raise ModelError(
            "the model holds a number that is not finite; inspect its yields"
        ) from error
    return spec
