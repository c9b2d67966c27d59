"""Workspaces of pyhf: read into a model, written back from one."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood import modifiers as mod
from difana.likelihood.build import _DEFAULTS, build_model
from difana.likelihood.model import Model
from difana.likelihood.structure import ModifierLayout


def _load(workspace: Mapping | str | Path) -> dict[str, Any]:
    """Return the workspace as a validated mapping."""
    from pyhf import exceptions, schema  # JSON handling only, never the numbers

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
            schema.validate(spec, "workspace.json")
    except exceptions.InvalidSpecification as error:
        raise ModelError(f"not a valid pyhf workspace: {error}") from error
    return spec


def _modifier(spec: Mapping, channel: str, sample: str, shared: set[str]) -> mod.AbstractModifier:
    kind, name = spec["type"], spec["name"]
    data: Any = spec.get("data")
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
        # pyhf keeps the factors of different channels independent
        return mod.StatError(np.array(data), f"{name}_{channel}" if name in shared else name)
    if kind == "shapesys":
        return mod.ShapeSys(np.array(data), name)
    raise ModelError(
        f"channel '{channel}', sample '{sample}': modifier '{name}' has the unknown type '{kind}'"
    )


_NOT_READ = {"staterror": ("sigmas",), "shapesys": ("auxdata",)}


def _check_settings(
    parameters: Sequence[Mapping], kinds: Mapping[str, str], shared: set[str]
) -> None:
    """Refuse settings that would otherwise be read with another meaning than in pyhf."""
    for entry in parameters:
        kind = kinds.get(entry["name"], "")
        if entry["name"] in shared:
            raise ModelError(
                f"staterror '{entry['name']}' stands in several channels and cannot be set: "
                "name it after its channel"
            )
        for key in ("factors", *_NOT_READ.get(kind, ())):
            if key in entry:
                raise ModelError(
                    f"parameter '{entry['name']}': '{key}' of a {kind or 'parameter'} cannot be "
                    "set; remove it from the measurement"
                )


def _shared_staterrors(spec: Mapping) -> set[str]:
    """Return the staterrors whose name stands in several channels."""
    uses = Counter(
        name
        for channel in spec["channels"]
        for name in {
            modifier["name"]
            for sample in channel["samples"]
            for modifier in sample["modifiers"]
            if modifier["type"] == "staterror"
        }
    )
    return {name for name, number in uses.items() if number > 1}


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
        ModelError: If the file is missing, not JSON or not a workspace, an observation or
            measurement is missing, or a parameter has a setting that is not supported.

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
    shared = _shared_staterrors(spec)
    # pyhf sorts channels and samples: sums then run in the same order
    channels = []
    for channel in sorted(spec["channels"], key=lambda entry: entry["name"]):
        templates = []
        for sample in sorted(channel["samples"], key=lambda entry: entry["name"]):
            found = tuple(
                _modifier(entry, channel["name"], sample["name"], shared)
                for entry in sample["modifiers"]
            )
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
        modifier.name: modifier.kind
        for channel in channels
        for template in channel.templates
        for modifier in template.modifiers
    }
    _check_settings(config["parameters"], used, shared)
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
    return model, model.data(jnp.asarray(observed))


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
            if kind == "lumi":
                entry["sigmas"] = widths.tolist()
            elif kind == "normal" and (widths != 1.0).any():
                raise ModelError(
                    f"parameter '{name}' is constrained with width {widths[0]:g}; pyhf knows only "
                    "1: scale its templates instead"
                )
        elif kind == "poisson":
            first = constraint[start]
            if (np.asarray(model.centers[first : first + size]) != default).any():
                raise ModelError(
                    f"shapesys '{name}' has other auxiliary data than its own yields, which a "
                    "workspace cannot hold"
                )
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
        ModelError: If a number is not finite, or a constraint is one that pyhf does not know.

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
