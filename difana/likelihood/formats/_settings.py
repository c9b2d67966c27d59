"""The parameter settings of a measurement, with the meaning they have in pyhf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from difana._errors import ModelError
from difana.likelihood.modifiers import Parameter

_ALWAYS = ("name", "inits", "bounds", "fixed")
_USED = {  # settings that pyhf reads, by the type of the modifier
    "normfactor": (),
    "shapefactor": (),
    "normsys": ("auxdata",),
    "histosys": ("auxdata",),
    "lumi": ("auxdata", "sigmas"),
    "staterror": ("auxdata", "sigmas"),
    "shapesys": ("auxdata", "factors"),
}


class Entry(NamedTuple):
    """A modifier while a workspace is read: what ``build_model`` asks of one, and light.

    Ten thousand Equinox modules would take longer than all the rest of the reading.
    """

    kind: str
    name: str
    hi: Any = None
    lo: Any = None
    uncertainty: Any = None


class Draft(NamedTuple):
    """One sample while a workspace is read; a template to ``build_model``."""

    channel: str
    name: str
    values: np.ndarray
    modifiers: list[Entry]


class Region(NamedTuple):
    """One channel while a workspace is read."""

    name: str
    templates: list[Draft]
    parameters: tuple[Parameter, ...] = ()  # as of a Channel


class _Part(NamedTuple):
    """A parameter set in one channel, or in all; pyhf may know several as one."""

    name: str
    kind: str
    size: int
    users: list[tuple[Draft, int]]  # samples, and which of their entries


def _parts(drafts: Sequence[Draft], origin: Mapping[str, str]) -> dict[str, list[_Part]]:
    """Return the parameter sets by their name in the workspace."""
    found: dict[str, _Part] = {}
    for draft in drafts:
        for i, entry in enumerate(draft.modifiers):
            if entry.name not in found:
                vector = entry.kind in ("staterror", "shapesys", "shapefactor")
                size = draft.values.size if vector else 1
                found[entry.name] = _Part(entry.name, entry.kind, size, [])
            found[entry.name].users.append((draft, i))
    grouped: dict[str, list[_Part]] = {}
    for name, part in found.items():
        grouped.setdefault(origin.get(name, name), []).append(part)
    return grouped


def _fail(name: str, problem: str) -> NoReturn:
    raise ModelError(f"parameter '{name}' of the measurement: {problem}")


def _checked(entry: Mapping[str, Any], parts: Sequence[_Part]) -> dict[str, np.ndarray]:
    """Return the settings as arrays of one entry a parameter."""
    name, kind = entry["name"], parts[0].kind
    size = sum(part.size for part in parts)
    found: dict[str, np.ndarray] = {}
    for key, value in entry.items():
        if key == "name":
            continue
        if key not in (*_ALWAYS, *_USED[kind]):
            _fail(name, f"a {kind} does not use '{key}'; remove it")
        if key == "fixed":
            found[key] = np.asarray(value, bool)
            if isinstance(value, bool):
                found[key] = np.full(size, value)
        else:
            found[key] = np.asarray(value, float)
        if len(found[key]) != size:
            _fail(name, f"{len(found[key])} {key} where {size} are needed")
        if key in ("factors", "sigmas") and (found[key] <= 0).any():
            _fail(name, f"{key} must be positive")
    return found


def _rewrite(part: _Part, uncertainty: Sequence[np.ndarray]) -> None:
    for (draft, i), values in zip(part.users, uncertainty, strict=True):
        draft.modifiers[i] = draft.modifiers[i]._replace(uncertainty=values)


def _relative(part: _Part) -> np.ndarray:
    """Return the relative width of each bin, 0 where there is none."""
    total = sum(draft.values for draft, _ in part.users)
    square = sum(draft.modifiers[i].uncertainty ** 2 for draft, i in part.users)
    good = (total > 0) & (square > 0)
    if part.kind == "shapesys":  # one sample; pyhf ignores negative uncertainties
        draft, i = part.users[0]
        good &= draft.modifiers[i].uncertainty > 0
    return np.where(good, np.sqrt(np.where(good, square, 0.0)) / np.where(good, total, 1.0), 0.0)


def _widths(part: _Part, given: dict[str, np.ndarray]) -> np.ndarray | None:
    """Apply given widths to the uncertainties of the samples; return the centres.

    A model keeps uncertainties and derives the widths of its constraints from them. ``sigmas``
    scale all uncertainties of a staterror; ``factors`` (expected auxiliary counts) set those of a
    shapesys to nominal / sqrt(factor).
    """
    auxdata = given.get("auxdata")
    if part.kind == "staterror":
        if "sigmas" in given:
            relative = _relative(part)
            scale = np.where(relative > 0, given["sigmas"] / np.where(relative > 0, relative, 1), 1)
            _rewrite(part, [d.modifiers[i].uncertainty * scale for d, i in part.users])
        return auxdata
    if part.kind != "shapesys" or not {"auxdata", "factors"} & given.keys():
        return auxdata
    relative = _relative(part)
    valid = relative > 0
    usual = np.where(valid, 1.0 / np.where(valid, relative, 1.0) ** 2, 1.0)
    factors = np.where(valid, given.get("factors", usual), 1.0)
    if "factors" in given:
        draft, i = part.users[0]
        _rewrite(
            part, [np.where(valid, draft.values / np.sqrt(factors), draft.modifiers[i].uncertainty)]
        )
    # auxdata count events, centres are in units of the parameter
    return (usual if auxdata is None else auxdata) / factors


def parameter_settings(
    settings: Sequence[Mapping[str, Any]], drafts: Sequence[Draft], origin: Mapping[str, str]
) -> tuple[list[Parameter], dict[str, np.ndarray]]:
    """Return the settings for ``build_model``; uncertainties in ``drafts`` may be rewritten.

    Args:
        settings: The ``parameters`` of a measurement; those of absent modifiers are ignored, as
            in pyhf.
        drafts: All samples with their modifiers.
        origin: Maps names of parameter sets to their names in the workspace, where they differ.

    Returns:
        The settings, and by name which entries are held where not all or none are.

    Raises:
        ModelError: Names the parameter, and what its modifier does not use or has another length.
    """
    grouped = _parts(drafts, origin) if settings else {}
    found, held = [], {}
    for entry in settings:
        parts = grouped.get(entry["name"], [])
        if not parts:
            continue
        given = _checked(entry, parts)
        start = 0
        for part in parts:
            own = {key: value[start : start + part.size] for key, value in given.items()}
            start += part.size
            centers = _widths(part, own)
            fixed = own.get("fixed", np.zeros(part.size, bool))
            if fixed.any() and not fixed.all():
                held[part.name] = fixed
            found.append(
                Parameter(
                    part.name,
                    init=own.get("inits"),
                    bounds=tuple(map(tuple, own["bounds"].tolist())) if "bounds" in own else None,
                    auxdata=centers,
                    sigma=own.get("sigmas") if part.kind == "lumi" else None,
                    fixed=bool(fixed.all()) and "fixed" in own,
                )
            )
    return found, held
