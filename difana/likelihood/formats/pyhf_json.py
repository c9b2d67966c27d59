"""Workspaces of pyhf, read into a model (:mod:`difana.likelihood.formats.pyhf_write` writes)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import jax
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood.barlow_beeston import full_statistics
from difana.likelihood.build import build_model
from difana.likelihood.formats._json import pause_collection
from difana.likelihood.formats._settings import Draft, Entry, Region, parameter_settings
from difana.likelihood.formats.json_patch import Operations
from difana.likelihood.formats.workspace import read_workspace
from difana.likelihood.model import Model
from difana.likelihood.modifiers import Channel


def _entry(spec: Mapping[str, Any], channel: str, sample: str, shared: set[str]) -> Entry:
    kind, name, data = spec["type"], spec["name"], spec["data"]
    if kind == "histosys":
        hi, lo = np.array(data["hi_data"], float), np.array(data["lo_data"], float)
        return Entry(kind, name, hi, lo)
    if kind == "normsys":
        if data["hi"] < 0 or data["lo"] < 0:
            raise ModelError(
                f"channel '{channel}', sample '{sample}', normsys '{name}': a factor is negative "
                f"(hi {data['hi']:g}, lo {data['lo']:g}); it has no logarithm"
            )
        return Entry(kind, name, float(data["hi"]), float(data["lo"]))
    if kind == "staterror":
        # one name in several channels: a factor for every bin of each
        name = f"{name}_{channel}" if name in shared else name
    if kind in ("staterror", "shapesys"):
        return Entry(kind, name, uncertainty=np.array(data, float))
    return Entry(kind, name)


def _shared_staterrors(spec: Mapping[str, Any]) -> set[str]:
    """Return the staterrors whose name stands in several channels."""
    home: dict[str, str] = {}
    shared = set()
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] == "staterror":
                    name = modifier["name"]
                    if home.setdefault(name, channel["name"]) != channel["name"]:
                        shared.add(name)
    return shared


def _drafts(spec: Mapping[str, Any]) -> tuple[list[Draft], dict[str, str]]:
    """Return all samples, and the origin of names that stand for one channel of several.

    Channels and samples are sorted as in pyhf: sums then run in the same order.
    """
    shared = _shared_staterrors(spec)
    drafts = []
    for channel in sorted(spec["channels"], key=lambda entry: entry["name"]):
        for sample in sorted(channel["samples"], key=lambda entry: entry["name"]):
            names = channel["name"], sample["name"]
            entries = [_entry(entry, *names, shared) for entry in sample["modifiers"]]
            drafts.append(Draft(*names, np.array(sample["data"], float), entries))
    origin = {f"{name}_{channel['name']}": name for name in shared for channel in spec["channels"]}
    return drafts, origin


def _need_luminosity(config: Mapping[str, Any], drafts: Sequence[Draft]) -> None:
    given = {entry["name"]: entry for entry in config["parameters"]}.get("lumi", {})
    if {"auxdata", "sigmas"} <= given.keys():
        return
    for draft in drafts:
        if any(entry.kind == "lumi" for entry in draft.modifiers):
            raise ModelError(
                f"channel '{draft.channel}', sample '{draft.name}': the modifier lumi needs value "
                "and width of the luminosity in the 'parameters' of the measurement, such as "
                '{"name": "lumi", "auxdata": [1.0], "sigmas": [0.02]}'
            )


def choose_measurement(spec: Mapping[str, Any], measurement: str | int | None) -> Mapping[str, Any]:
    """Return a measurement by name or position; the first one by default.

    Raises:
        ModelError: If there is none of that name or position.
    """
    names = [entry["name"] for entry in spec["measurements"]]
    if isinstance(measurement, str):
        if measurement not in names:
            raise ModelError(f"no measurement '{measurement}'.{nearest(measurement, names)}")
        return spec["measurements"][names.index(measurement)]
    if measurement is not None and not 0 <= measurement < len(names):
        raise ModelError(f"no measurement {measurement}: there are {len(names)}, {names}")
    return spec["measurements"][measurement or 0]


def observed_yields(spec: Mapping[str, Any], *, masked: Collection[str] = ()) -> np.ndarray:
    """Return the observed yields of all bins, channels sorted; masked ones may have none.

    Raises:
        ModelError: If a channel has no observation.
    """
    blind = {
        channel["name"]: np.zeros(len(channel["samples"][0]["data"]))
        for channel in spec["channels"]
        if channel["name"] in masked
    }
    if "observations" not in spec and len(blind) < len(spec["channels"]):
        raise ModelError(
            "the workspace has no observations: only expected results are possible "
            "(model_from_workspace reads the model alone)"
        )
    observations = blind | {entry["name"]: entry["data"] for entry in spec.get("observations", ())}
    names = sorted(channel["name"] for channel in spec["channels"])
    for name in names:
        if name not in observations:
            raise ModelError(f"channel '{name}' has no observation.{nearest(name, observations)}")
    return np.concatenate([np.asarray(observations[name], float) for name in names])


def auxiliary_data(model: Model, **numbers: np.ndarray) -> np.ndarray:
    """Return ``model.auxiliary()`` in NumPy: eagerly, JAX would compile each of its steps.

    Args:
        model: The model.
        **numbers: ``nominal``, ``staterror`` or ``shapesys`` that replace those of the model.
    """
    s, size = model.structure, len(model.parameters)
    squares, totals, member = np.zeros(size), np.zeros(size), np.zeros(size, bool)
    nominal = numbers.get("nominal", model.nominal)
    for owner, row, uncertainty in (
        (s.staterror_parameter, s.staterror_row, numbers.get("staterror", model.staterror)),
        (s.shapesys_parameter, s.shapesys_row, numbers.get("shapesys", model.shapesys)),
    ):
        np.add.at(squares, owner, np.asarray(uncertainty) ** 2)
        np.add.at(totals, owner, np.asarray(nominal)[row])
        member[owner] = True
    good = (totals > 0) & (squares > 0)
    relative = np.sqrt(np.where(good, squares, 1.0)) / np.where(good, totals, 1.0)
    relative = np.where(good, relative, 1.0)[s.constrained]
    widths = np.where(member[s.constrained], relative, np.asarray(model.widths))
    return np.asarray(model.centers) * np.where(s.poisson, 1.0 / widths**2, 1.0)


def with_auxiliary(model: Model, data: Float[Array, " data"]) -> Model:
    """Return the model with the centres of its constraints at the auxiliary data given.

    Data of the counts alone leave the model as it is. In NumPy.
    """
    given, own = np.asarray(data, float)[model.bins :], auxiliary_data(model)
    if not given.size or np.allclose(given, own, rtol=1e-12, atol=1e-12):
        return model
    if given.shape != own.shape:
        raise ModelError(
            f"{given.size} auxiliary data, where the model has {own.size}: use model.data(observed)"
        )
    centers = np.asarray(model.centers, float)
    taus = np.where(model.structure.poisson, own / np.where(centers == 0, 1.0, centers), 1.0)
    return dataclasses.replace(model, centers=jax.device_put(given / taus))


def model_of(
    spec: Mapping[str, Any],
    *,
    measurement: str | int | None = None,
    interpolation: Mapping[str, str] | None = None,
    poi: str | None = "",
    masked: Sequence[str] = (),
    barlow_beeston: str = "lite",
) -> Model:
    """Return the model of a workspace that has been checked."""
    config = choose_measurement(spec, measurement)["config"]
    drafts, origin = _drafts(spec)
    settings, held = parameter_settings(config["parameters"], drafts, origin)
    _need_luminosity(config, drafts)
    regions = [
        Region(name, list(group))
        for name, group in itertools.groupby(drafts, key=lambda draft: draft.channel)
    ]
    chosen = config["poi"] if poi == "" else poi
    names = {entry.name for draft in drafts for entry in draft.modifiers}
    if chosen and chosen not in names:
        raise ModelError(
            f"the parameter of interest '{chosen}' steers no sample: patch in a signal, or choose "
            f"another parameter, or none, with `poi`.{nearest(chosen, names)}"
        )
    channels, settings, single = full_statistics(
        cast("list[Channel]", regions), settings, method=barlow_beeston
    )
    model = build_model(
        channels,
        poi=chosen or None,
        parameters=settings,
        interpolation=interpolation,
        masked=masked,
    )
    if held:
        fixed = model.structure.fixed.copy()
        for name, start, size, _ in model.structure.sets:
            known = single.get(name, name)
            if known in held:
                fixed[start : start + size] |= held[known]
        model = dataclasses.replace(
            model, structure=dataclasses.replace(model.structure, fixed=fixed)
        )
    return model


def model_from_workspace(
    workspace: Mapping[str, Any] | str | Path | IO[bytes],
    *,
    measurement: str | int | None = None,
    patches: Sequence[str | Path | Operations] = (),
    interpolation: Mapping[str, str] | None = None,
    poi: str | None = "",
    masked: Sequence[str] = (),
    barlow_beeston: str = "lite",
) -> Model:
    """Read the model of a pyhf workspace alone: observations may be missing, and are not used.

    Args:
        workspace: As of :func:`from_workspace`.
        measurement: Which measurement to use, by name or position; the first one by default.
        patches: JSON patches to apply before, or paths of them.
        interpolation: Codes of "normsys" and "histosys".
        poi: Parameter of interest: None for none; by default that of the measurement.
        masked: Names of channels that no fit looks at.
        barlow_beeston: Simulation statistics "lite", "full" or "full-gaussian".

    Raises:
        ModelError: As :func:`from_workspace`.

    Example:
        >>> model = model_from_workspace({
        ...     "channels": [{"name": "SR", "samples": [{"name": "s", "data": [5.0], "modifiers":
        ...         [{"name": "mu", "type": "normfactor", "data": None}]}]}],
        ...     "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        ...     "version": "1.0.0"})
        >>> model.expected_main(model.init).tolist()
        [5.0]
    """
    with pause_collection():
        spec = read_workspace(workspace, patches=patches)
        return model_of(
            spec,
            measurement=measurement,
            interpolation=interpolation,
            poi=poi,
            masked=masked,
            barlow_beeston=barlow_beeston,
        )


def from_workspace(
    workspace: Mapping[str, Any] | str | Path | IO[bytes],
    *,
    measurement: str | int | None = None,
    patches: Sequence[str | Path | Operations] = (),
    interpolation: Mapping[str, str] | None = None,
    poi: str | None = "",
    masked: Sequence[str] = (),
    barlow_beeston: str = "lite",
) -> tuple[Model, Float[Array, " data"]]:
    """Read a pyhf workspace (version 1.0.0).

    Every setting of a measurement has the meaning that it has in pyhf. In addition, ``fixed`` may
    be a list with one entry a bin. A staterror whose name stands in several channels becomes one
    set of parameters a channel, ``name_channel``; its settings list the bins of all of them. A
    bin without uncertainty is always held.

    Args:
        workspace: A mapping, the path of a JSON file (gzipped or not), or a stream of bytes.
        measurement: Which measurement to use, by name or position; the first one by default.
        patches: JSON patches to apply before, or paths of them.
        interpolation: Codes of "normsys" ("code4", "code1") and "histosys" ("code4p", "code2",
            "code0"): the ``modifier_settings`` of pyhf.
        poi: Parameter of interest: None for none; by default that of the measurement.
        masked: Names of channels that no fit looks at, with or without observation; see
            :func:`difana.likelihood.mask`.
        barlow_beeston: Simulation statistics by one factor a bin (``"lite"``, as in pyhf), or by
            one for each sample and bin (``"full"``: Poisson constraints, ``"full-gaussian"``);
            see :func:`difana.likelihood.full_statistics`.

    Returns:
        The model and its data: observed yields, then auxiliary data.

    Raises:
        ModelError: If the file is missing, broken or not a workspace, a patch does not apply, an
            observation or measurement is missing, or a parameter has a setting that its modifier
            does not use. The message names the place.

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
    with pause_collection():
        spec = read_workspace(workspace, patches=patches)
        model = model_of(
            spec,
            measurement=measurement,
            interpolation=interpolation,
            poi=poi,
            masked=masked,
            barlow_beeston=barlow_beeston,
        )
    observed = observed_yields(spec, masked=masked)
    return model, jax.device_put(np.concatenate([observed, auxiliary_data(model)]))
