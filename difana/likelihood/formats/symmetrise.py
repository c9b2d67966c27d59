"""Asymmetric variations of a channel or a workspace made symmetric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, overload

import numpy as np

from difana._errors import ModelError, nearest
from difana.likelihood.formats._schema import check_workspace
from difana.likelihood.formats.workspace import Workspace
from difana.likelihood.modifiers import Channel, HistoSys, NormSys, Template
from difana.likelihood.templates.symmetric_templates import (
    AVERAGE,
    DIFFERENCE,
    SPLIT,
    Variation,
    check_method,
    symmetric_factors,
    symmetric_templates,
)


@overload
def symmetrise(
    source: Channel, *, method: str = "average", modifiers: str | Sequence[str] = "*"
) -> Channel: ...


@overload
def symmetrise(
    source: Workspace, *, method: str = "average", modifiers: str | Sequence[str] = "*"
) -> Workspace: ...


def symmetrise(
    source: Channel | Workspace, *, method: str = "average", modifiers: str | Sequence[str] = "*"
) -> Channel | Workspace:
    """Return a channel or a workspace whose normsys and histosys are symmetric.

    Templates are treated by :func:`symmetric_templates`, factors by :func:`symmetric_factors`.
    With ``"linear"`` and ``"quadratic"`` the nuisance ``name`` becomes the two nuisances
    ``nameSymAvg`` and ``nameSymDiff`` wherever it acts; its settings hold for both.

    Args:
        source: A channel, or a workspace (it is not changed).
        method: How; see :func:`symmetric_templates`.
        modifiers: Names of the modifiers to treat, or patterns with ``*`` and ``?``. In a list of
            channels give the same to each: a nuisance is split in all of them.

    Returns:
        A channel or a workspace.

    Raises:
        ModelError: If the method is unknown, no modifier has the name, or a nuisance to be split
            is the parameter of interest or also a factor.

    Example:
        >>> from difana.likelihood import NormFactor
        >>> bkg = Template([10.0], (HistoSys([13.0], [9.0], "jes"),), name="ttbar")
        >>> channel = symmetrise(Channel((bkg,), name="SR"), method="linear")
        >>> [(m.name, m.hi.tolist()) for m in channel.templates[0].modifiers]
        [('jesSymAvg', [12.0]), ('jesSymDiff', [11.0])]
    """
    check_method(method)
    patterns = [modifiers] if isinstance(modifiers, str) else list(modifiers)
    if not isinstance(source, Channel):
        source = check_workspace(source)
    if isinstance(source, Channel):
        kinds = [(m.name, m.kind) for t in source.templates for m in t.modifiers]
    else:
        kinds = [
            (m["name"], m["type"])
            for channel in source["channels"]
            for sample in channel["samples"]
            for m in sample["modifiers"]
        ]
    chosen = _chosen(kinds, patterns, method)
    if isinstance(source, Channel):
        return _channel(source, chosen, method)
    return _workspace(source, chosen, method)


def _chosen(
    kinds: Sequence[tuple[str, str]], patterns: Sequence[str], method: str
) -> Callable[[str], bool]:
    """Return whether a nuisance is to be treated, by its name."""
    names = {name for name, kind in kinds if kind in ("normsys", "histosys")}
    for pattern in patterns:
        if pattern != "*" and not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(
                f"no normsys or histosys is called '{pattern}'.{nearest(pattern, sorted(names))}"
            )
    found = {n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)}
    if method in SPLIT:
        for name, kind in kinds:
            if name in found and kind not in ("normsys", "histosys"):
                raise ModelError(
                    f"'{name}' is a {kind} too and cannot be split in two nuisances; rename one"
                )
            if name.endswith((AVERAGE, DIFFERENCE)) and name not in found:
                stem = name.removesuffix(AVERAGE).removesuffix(DIFFERENCE)
                if stem in found:
                    raise ModelError(f"'{stem}' would be split in '{name}', which is taken")
    return found.__contains__


def _channel(source: Channel, chosen: Callable[[str], bool], method: str) -> Channel:
    def treated(template: Template) -> Template:
        found = []
        for m in template.modifiers:
            if m.kind == "histosys" and chosen(m.name):
                pairs = symmetric_templates(template.values, m.hi, m.lo, method=method)
                found += [HistoSys(p.up, p.down, m.name + p.suffix) for p in pairs]
            elif m.kind == "normsys" and chosen(m.name):
                pairs = _named_factors(m.name, m.hi, m.lo, method)
                found += [NormSys(p.up, p.down, m.name + p.suffix) for p in pairs]
            else:
                found.append(m)
        return dataclasses.replace(template, modifiers=tuple(found))

    settings = []
    for setting in source.parameters:
        suffixes = _suffixes(method) if chosen(setting.name) else ("",)
        settings += [dataclasses.replace(setting, name=setting.name + s) for s in suffixes]
    templates = tuple(treated(template) for template in source.templates)
    return dataclasses.replace(source, templates=templates, parameters=tuple(settings))


def _named_factors(name: str, hi: Any, lo: Any, method: str) -> tuple[Variation, ...]:
    try:
        return symmetric_factors(hi, lo, method=method)
    except ModelError as error:
        raise ModelError(f"normsys '{name}': {error}") from error


def _suffixes(method: str) -> tuple[str, ...]:
    return (AVERAGE, DIFFERENCE) if method in SPLIT else ("",)


def _workspace(source: Workspace, chosen: Callable[[str], bool], method: str) -> Workspace:
    def treated(sample: Mapping[str, Any]) -> dict[str, Any]:
        found = []
        for m in sample["modifiers"]:
            data = m["data"]
            if m["type"] == "histosys" and chosen(m["name"]):
                pairs = symmetric_templates(
                    sample["data"], data["hi_data"], data["lo_data"], method=method
                )
                keys = "hi_data", "lo_data"
            elif m["type"] == "normsys" and chosen(m["name"]):
                pairs = _named_factors(m["name"], data["hi"], data["lo"], method)
                keys = "hi", "lo"
            else:
                found.append(m)
                continue
            for pair in pairs:
                numbers = {
                    key: np.asarray(value).tolist()
                    for key, value in zip(keys, (pair.up, pair.down), strict=True)
                }
                found.append({**m, "name": m["name"] + pair.suffix, "data": numbers})
        return {**sample, "modifiers": found}

    measurements = []
    for measurement in source["measurements"]:
        config = measurement["config"]
        if method in SPLIT and chosen(config["poi"]):
            raise ModelError(
                f"'{config['poi']}' is the parameter of interest and cannot be split in two"
            )
        settings = [
            {**entry, "name": entry["name"] + suffix}
            for entry in config["parameters"]
            for suffix in (_suffixes(method) if chosen(entry["name"]) else ("",))
        ]
        measurements.append({**measurement, "config": {**config, "parameters": settings}})
    channels = [
        {**channel, "samples": [treated(sample) for sample in channel["samples"]]}
        for channel in source["channels"]
    ]
    return check_workspace({**source, "channels": channels, "measurements": measurements})
