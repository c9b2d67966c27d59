"""Workspaces of pyhf: read into a model, written back from one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood import modifiers as mod
from difana.likelihood.build import _DEFAULTS, build_model
from difana.likelihood.model import Model
from difana.likelihood.structure import ModifierLayout


def _load(workspace: Mapping | str | Path) -> dict[str, Any]:
    """Return the workspace as a validated mapping."""
    import pyhf  # JSON handling only, never the numbers

    if isinstance(workspace, (str, Path)):
        path = Path(workspace)
        if not path.is_file():
            raise ModelError(f"no workspace file '{path}'")
        try:
            workspace = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ModelError(f"'{path}' is not JSON: {error}") from error
    spec = dict(workspace) if isinstance(workspace, Mapping) else {}
    try:
        with warnings.catch_warnings():  # pyhf 0.7 uses a deprecated part of jsonschema
            warnings.filterwarnings("ignore", "jsonschema.RefResolver", DeprecationWarning)
            pyhf.schema.validate(spec, "workspace.json")
    except pyhf.exceptions.InvalidSpecification as error:
        raise ModelError(f"not a valid pyhf workspace: {error}") from error
    return spec


def _modifier(spec: Mapping, where: str) -> mod.AbstractModifier:
    kind, name, data = spec["type"], spec["name"], spec.get("data")
    if kind == "normfactor":
        return mod.NormFactor(name)
    if kind == "lumi":
        return mod.Lumi(name)
    if kind == "shapefactor":
        return mod.ShapeFactor(name)
    if kind == "normsys":
        return mod.NormSys(data["hi"], data["lo"], name)
    if kind == "histosys":
        return mod.HistoSys(np.array(data["hi_data"]), np.array(data["lo_data"]), name)
    if kind == "staterror":
        return mod.StatError(np.array(data), name)
    if kind == "shapesys":
        return mod.ShapeSys(np.array(data), name)
    raise ModelError(f"{where}: modifier '{name}' has the unknown type '{kind}'")


def from_workspace(
    workspace: Mapping | str | Path, *, measurement: str | None = None
) -> tuple[Model, Float[Array, " data"]]:
    """Read a pyhf workspace (version 1.0.0).

    Args:
        workspace: A mapping, or the path of a JSON file.
        measurement: Which measurement to use; the first one by default.

    Returns:
        The model and its data: observed yields, then auxiliary data.

    Raises:
        ModelError: If the file is missing, not JSON or not a workspace, or an observation or
            measurement is missing.

    Example:
        >>> model, data = from_workspace({
        ...     "channels": [{"name": "SR", "samples": [{"name": "s", "data": [5.0], "modifiers":
        ...         [{"name": "mu", "type": "normfactor", "data": None}]}]}],
        ...     "observations": [{"name": "SR", "data": [4.0]}],
        ...     "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        ...     "version": "1.0.0"})
        >>> model.parameters, data.tolist()
        (('mu',), [4.0])
    """
    spec = _load(workspace)
    # pyhf sorts channels and samples: sums then run in the same order
    channels = []
    for channel in sorted(spec["channels"], key=lambda entry: entry["name"]):
        templates = []
        for sample in sorted(channel["samples"], key=lambda entry: entry["name"]):
            where = f"channel '{channel['name']}', sample '{sample['name']}'"
            found = tuple(_modifier(entry, where) for entry in sample["modifiers"])
            templates.append(mod.Template(np.array(sample["data"]), found, name=sample["name"]))
        channels.append(mod.Channel(tuple(templates), name=channel["name"]))
    names = [entry["name"] for entry in spec["measurements"]]
    if not names:
        raise ModelError("the workspace has no measurement")
    chosen = names[0] if measurement is None else measurement
    if chosen not in names:
        raise ModelError(f"no measurement '{chosen}'.{nearest(chosen, names)}")
    config = spec["measurements"][names.index(chosen)]["config"]
    used = {
        modifier.name for channel in channels for t in channel.templates for modifier in t.modifiers
    }
    settings = [
        mod.Parameter(
            entry["name"],
            init=np.array(entry["inits"]) if "inits" in entry else None,
            bounds=tuple(map(tuple, entry["bounds"])) if "bounds" in entry else None,
            auxdata=np.array(entry["auxdata"]) if "auxdata" in entry else None,
            sigma=np.array(entry["sigmas"]) if "sigmas" in entry else None,
            fixed=bool(entry.get("fixed", False)),
        )
        for entry in config["parameters"]
        if entry["name"] in used  # pyhf ignores settings of modifiers that are not there
    ]
    model = build_model(channels, poi=config["poi"] or None, parameters=settings)
    observations = {entry["name"]: entry["data"] for entry in spec["observations"]}
    missing = [channel.name for channel in channels if channel.name not in observations]
    if missing:
        raise ModelError(f"channel '{missing[0]}' has no observation")
    observed = np.concatenate([np.asarray(observations[c.name], float) for c in channels])
    return model, model.data(observed)


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


def _parameter_specs(model: Model) -> list[dict[str, Any]]:
    """Write the settings that differ from the defaults of pyhf."""
    init, lower, upper = (np.asarray(x, float) for x in (model.init, model.lower, model.upper))
    constraint = {int(p): i for i, p in enumerate(model.structure.constrained)}
    specs = []
    for name, start, size, kind in model.structure.sets:
        entries = slice(start, start + size)
        default, low, high = _DEFAULTS[kind]
        entry: dict[str, Any] = {}
        if kind == "lumi" or (init[entries] != default).any():
            entry["inits"] = init[entries].tolist()
        if kind == "lumi" or (lower[entries] != low).any() or (upper[entries] != high).any():
            entry["bounds"] = np.stack([lower[entries], upper[entries]], axis=1).tolist()
        if kind in ("lumi", "normal", "gamma"):
            first = constraint[start]
            centers = np.asarray(model.centers[first : first + size], float)
            widths = np.asarray(model.widths[first : first + size], float)
            if kind == "lumi" or (centers != default).any():
                entry["auxdata"] = centers.tolist()
            if kind == "lumi" or (kind == "normal" and (widths != 1.0).any()):
                entry["sigmas"] = widths.tolist()
        if model.structure.fixed[entries].all():
            entry["fixed"] = True
        if entry:
            specs.append({"name": name, **entry})
    return specs


def to_workspace(
    model: Model, data: Float[Array, " data"], *, measurement: str = "measurement"
) -> dict[str, Any]:
    """Write a model and its data as a pyhf workspace (version 1.0.0), ready for ``json.dump``.

    Args:
        model: The model, with concrete numbers.
        data: Data vector; the observed yields are taken from it, the auxiliary data from the
            model.
        measurement: Name of the measurement.

    Raises:
        ModelError: If a number is not finite.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([5.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> to_workspace(model, model.data([4.0]))["observations"]
        [{'name': 'SR', 'data': [4.0]}]
    """
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
