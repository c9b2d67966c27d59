"""One walk over the variations of a channel or of a workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np

from difana._errors import ModelError, nearest
from difana.likelihood.formats._schema import check_workspace
from difana.likelihood.formats.workspace import Workspace
from difana.likelihood.modifiers import Channel, HistoSys, NormSys, StatError, Template

Variations = Sequence[HistoSys | NormSys]
Treat = Callable[[Template, Variations], Variations]
Source = TypeVar("Source", Channel, Workspace)


def map_variations(source: Source, treat: Treat, *, modifiers: str | Sequence[str] = "*") -> Source:
    """Return a channel or workspace with other variations.

    Args:
        source: A channel, or a workspace (it is not changed).
        treat: Gets a template, of a workspace with its statistical uncertainty alone, and the
            normsys and histosys of one name on it; returns what replaces them.
        modifiers: Names of the modifiers to treat, or patterns with ``*`` and ``?``.

    Raises:
        ModelError: If no modifier has one of the names.
    """
    patterns = (modifiers,) if isinstance(modifiers, str) else tuple(modifiers)
    if isinstance(source, Channel):
        names = {m.name for t in source.templates for m in t.modifiers if m.kind in _KINDS}
        chosen = _chosen(names, patterns)
        templates = tuple(
            dataclasses.replace(template, modifiers=_treated(template, chosen, treat))
            for template in source.templates
        )
        return dataclasses.replace(source, templates=templates)
    workspace = check_workspace(source)
    names = {
        m["name"]
        for channel in workspace["channels"]
        for sample in channel["samples"]
        for m in sample["modifiers"]
        if m["type"] in _KINDS
    }
    chosen = _chosen(names, patterns)
    channels = [
        {**channel, "samples": [_treated_sample(s, chosen, treat) for s in channel["samples"]]}
        for channel in workspace["channels"]
    ]
    used = {m["name"] for c in channels for s in c["samples"] for m in s["modifiers"]}
    gone = names - used
    measurements = [
        {**entry, "config": {**entry["config"], "parameters": [
            p for p in entry["config"]["parameters"] if p["name"] not in gone
        ]}}
        for entry in workspace["measurements"]
    ]  # fmt: skip
    return check_workspace({**workspace, "channels": channels, "measurements": measurements})


_KINDS = ("normsys", "histosys")


def _chosen(names: set[str], patterns: Sequence[str]) -> set[str]:
    for pattern in patterns:
        if pattern != "*" and not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(
                f"no normsys or histosys is called '{pattern}'.{nearest(pattern, sorted(names))}"
            )
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _treated(template: Template, chosen: set[str], treat: Treat) -> tuple[Any, ...]:
    """Return the modifiers of a template; those of one name stand where the first one stood."""
    found, done = [], set()
    for m in template.modifiers:
        if m.kind not in _KINDS or m.name not in chosen:
            found.append(m)
        elif m.name not in done:
            done.add(m.name)
            found += treat(template, _named(template, m.name))
    return tuple(found)


def _named(template: Template, name: str) -> list[HistoSys | NormSys]:
    own = [m for m in template.modifiers if m.name == name]
    return [m for m in own if isinstance(m, HistoSys | NormSys)]


def _treated_sample(sample: Mapping[str, Any], chosen: set[str], treat: Treat) -> dict[str, Any]:
    """Return a sample of a workspace; modifiers of other kinds stay as they are."""
    read: list[Any] = []
    for m in sample["modifiers"]:
        data = m["data"]
        if m["type"] == "histosys":
            read.append(HistoSys(np.array(data["hi_data"]), np.array(data["lo_data"]), m["name"]))
        elif m["type"] == "normsys":
            read.append(NormSys(data["hi"], data["lo"], m["name"]))
        elif m["type"] == "staterror":
            read.append(StatError(np.array(data), m["name"]))
    template = Template(np.array(sample["data"], float), tuple(read), name=sample["name"])
    found, done = [], set()
    for m in sample["modifiers"]:
        if m["type"] not in _KINDS or m["name"] not in chosen:
            found.append(m)
        elif m["name"] not in done:
            done.add(m["name"])
            found += [_written(o) for o in treat(template, _named(template, m["name"]))]
    return {**sample, "modifiers": found}


def _written(m: HistoSys | NormSys) -> dict[str, Any]:
    if isinstance(m, NormSys):
        data: dict[str, Any] = {"hi": float(m.hi), "lo": float(m.lo)}  # pyright: ignore
    else:
        data = {"hi_data": np.asarray(m.hi).tolist(), "lo_data": np.asarray(m.lo).tolist()}
    return {"name": m.name, "type": m.kind, "data": data}
