"""The structure of a pyhf workspace (schema 1.0.0), checked fast and to the last number.

What the JSON schema of pyhf demands, and more: lengths that agree, numbers that are finite, names
that stand once. Ten thousand modifiers take some 20 ms here and several seconds in jsonschema.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from difana._errors import ModelError, nearest

_HUGE = 1e100  # its square, and the square of that, are still finite
KINDS = ("histosys", "lumi", "normfactor", "normsys", "shapefactor", "shapesys", "staterror")
_EMPTY = ("lumi", "normfactor", "shapefactor")  # their data are null
_SETTINGS = ("inits", "bounds", "auxdata", "factors", "sigmas", "fixed")
_HISTOSYS = {"hi_data", "lo_data"}
_NORMSYS = {"hi", "lo"}


def _fail(path: Sequence[Any], problem: str) -> NoReturn:
    # a tuple is a template and its values: written out only here, where something is wrong
    spelled = (part[0].format(*part[1:]) if isinstance(part, tuple) else str(part) for part in path)
    place = "/".join(spelled)
    raise ModelError(f"not a valid pyhf workspace: {place + ': ' if place else ''}{problem}")


def _keys(entry: Any, needed: Sequence[str], path: Sequence[Any], optional: Any = ()) -> Mapping:
    """Refuse what is no object with exactly these keys."""
    if not isinstance(entry, Mapping):
        _fail(path, f"expected an object, not {_kind(entry)}")
    for key in needed:
        if key not in entry:
            _fail(path, f"the key '{key}' is missing")
    if len(entry) > len(needed):
        for key in entry:
            if key not in needed and key not in optional:
                near = nearest(str(key), [*needed, *optional])
                _fail(path, f"unknown key '{key}'.{near}")
    return entry


def _items(entry: Any, path: Sequence[Any], *, empty: bool = False) -> Sequence[Any]:
    if not isinstance(entry, (list, tuple)):
        _fail(path, f"expected a list, not {_kind(entry)}")
    if not entry and not empty:
        _fail(path, "the list is empty")
    return entry


def _kind(entry: Any) -> str:
    return "null" if entry is None else f"a {type(entry).__name__}"


def _name(entry: Any, path: Sequence[Any]) -> str:
    if type(entry) is not str:
        _fail(path, f"a name must be a string, not {_kind(entry)}")
    try:
        entry.encode()
    except UnicodeEncodeError:
        _fail(path, f"the name {entry!r} is not valid Unicode")
    return entry


def _unique(names: Iterable[str], path: Sequence[Any], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            _fail(path, f"two {what} are called '{name}'")
        seen.add(name)


def _vector(entry: Any, path: Sequence[Any], lists: list[Any], size: int | None = None) -> int:
    """Note a list of numbers for the check of all at once; return its length."""
    if type(entry) is list and len(entry) == size:  # the usual case
        lists.append((entry, path))
        return len(entry)
    if type(entry) is not list and not isinstance(entry, tuple):
        if not hasattr(entry, "__array__") or np.ndim(entry) != 1:
            _fail(path, f"expected a list of numbers, not {_kind(entry)}")
        entry = np.asarray(entry).tolist()
    if not entry:
        _fail(path, "the list is empty")
    if size is not None and len(entry) != size:
        _fail(path, f"{len(entry)} numbers where {size} are needed")
    lists.append((entry, path))
    return len(entry)


def _is_number(entry: Any) -> bool:
    return isinstance(entry, (int, float, np.integer, np.floating)) and not isinstance(entry, bool)


def _check_numbers(lists: Sequence[tuple[Any, Any]]) -> None:
    """Refuse strings, booleans and what is not finite; all lists in one pass of NumPy."""
    flat = list(itertools.chain.from_iterable(entry for entry, _ in lists))
    if set(map(type, flat)) <= {float, int}:
        try:
            if not flat or np.abs(np.array(flat, float)).max() <= _HUGE:
                return
        except OverflowError:
            pass
    for entry, path in lists:
        for i, value in enumerate(entry):
            if not _is_number(value):
                _fail((*path, i), f"expected a number, not {_kind(value)}")
            if not abs(value) <= _HUGE:
                shown = f"{value:.4g}" if isinstance(value, float) else "given"
                _fail((*path, i), f"the number {shown} is not finite or beyond {_HUGE:g}")


def _check_counts(lists: Sequence[tuple[Any, Any]]) -> None:
    for entry, path in lists:
        for i, value in enumerate(entry):
            if value < 0:
                _fail((*path, i), f"{value:g} events observed; counts cannot be negative")


def _check_modifiers(
    modifiers: Sequence[Any], bins: int, path: tuple[Any, ...], lists: list[Any]
) -> None:
    seen: set[tuple[str, str]] = set()
    for i, modifier in enumerate(modifiers):
        if type(modifier) is not dict or len(modifier) != 3:
            _keys(modifier, ("name", "type", "data"), (*path, ("modifiers[{}]", i)))
        try:
            kind, name, data = modifier["type"], modifier["name"], modifier["data"]
        except KeyError:
            _keys(modifier, ("name", "type", "data"), (*path, ("modifiers[{}]", i)))
            raise
        if type(name) is not str or type(kind) is not str:
            _name(name, (*path, ("modifiers[{}]", i), "name"))
            _name(kind, (*path, ("modifiers[{}]", i), "type"))
        place = (*path, ("modifiers[{}] {} '{}'", i, kind, name))
        if (kind, name) in seen:
            _fail(place, f"{kind} '{name}' stands twice in this sample")
        seen.add((kind, name))
        if kind == "histosys":
            if type(data) is not dict or data.keys() != _HISTOSYS:
                data = _keys(data, ("hi_data", "lo_data"), (*place, "data"))
            _vector(data["hi_data"], (*place, "hi_data"), lists, bins)
            _vector(data["lo_data"], (*place, "lo_data"), lists, bins)
        elif kind == "normsys":
            if type(data) is not dict or data.keys() != _NORMSYS:
                data = _keys(data, ("hi", "lo"), (*place, "data"))
            lists.append(((data["hi"], data["lo"]), (*place, "[hi, lo]")))
        elif kind in ("staterror", "shapesys"):
            _vector(data, (*place, "data"), lists, bins)
        elif kind in _EMPTY:
            if data is not None:
                _fail((*place, "data"), f"expected null, not {_kind(data)}")
            if kind == "lumi" and name != "lumi":
                _fail(place, "a modifier of type lumi must be called 'lumi'")
        else:
            _fail(place, f"unknown modifier type '{kind}'.{nearest(kind, KINDS)}")
    for _, name in seen:
        _name(name, path)


def _check_channels(spec: Mapping, lists: list[Any]) -> dict[str, int]:
    """Return the number of bins of every channel."""
    channels = _items(spec["channels"], ("channels",))
    bins: dict[str, int] = {}
    for c, channel in enumerate(channels):
        _keys(channel, ("name", "samples"), (f"channels[{c}]",))
        name = _name(channel["name"], (f"channels[{c}]", "name"))
        here = (f"channels[{c}] '{name}'",)
        if name in bins:
            _fail(here, f"two channels are called '{name}'")
        names = []
        for s, sample in enumerate(_items(channel["samples"], (*here, "samples"))):
            _keys(sample, ("name", "data", "modifiers"), (*here, f"samples[{s}]"))
            names.append(_name(sample["name"], (*here, f"samples[{s}]", "name")))
            place = (*here, f"samples[{s}] '{names[-1]}'")
            bins[name] = _vector(sample["data"], (*place, "data"), lists, bins.get(name))
            modifiers = _items(sample["modifiers"], (*place, "modifiers"), empty=True)
            _check_modifiers(modifiers, bins[name], place, lists)
        _unique(names, here, "samples")
    return bins


def _check_measurement(measurement: Any, path: tuple[Any, ...], lists: list[Any]) -> str:
    _keys(measurement, ("name", "config"), path)
    name = _name(measurement["name"], (*path, "name"))
    here = (f"{path[0]} '{name}'", "config")
    config = _keys(measurement["config"], ("poi", "parameters"), here)
    _name(config["poi"], (*here, "poi"))
    names = []
    for i, entry in enumerate(_items(config["parameters"], (*here, "parameters"), empty=True)):
        place = (*here, f"parameters[{i}]")
        _keys(entry, ("name",), place, _SETTINGS)
        names.append(_name(entry["name"], (*place, "name")))
        place = (*here, f"parameters[{i}] '{names[-1]}'")
        for key in ("inits", "auxdata", "factors", "sigmas"):
            if key in entry:
                _vector(entry[key], (*place, key), lists)
        for b, pair in enumerate(_items(entry.get("bounds", [[0, 1]]), (*place, "bounds"))):
            _vector(pair, (*place, f"bounds[{b}]"), lists, 2)
        fixed = entry.get("fixed", False)
        if not isinstance(fixed, bool) and not (
            isinstance(fixed, list) and fixed and all(isinstance(x, bool) for x in fixed)
        ):
            _fail((*place, "fixed"), "expected true, false, or a list of them")
    _unique(names, (*here, "parameters"), "parameters")
    return name


def check_workspace(spec: Any) -> Mapping[str, Any]:
    """Return a workspace if it follows the schema and is consistent.

    Args:
        spec: What should be a pyhf workspace, version 1.0.0.

    Raises:
        ModelError: Names the place at fault, such as ``channels[0] 'SR'/samples[1] 'ttbar'/data``.

    Example:
        >>> check_workspace({"channels": []})
        Traceback (most recent call last):
        difana._errors.ModelError: not a valid pyhf workspace: the key 'measurements' is missing
    """
    _keys(spec, ("channels", "measurements", "version"), (), ("observations",))
    if spec["version"] != "1.0.0":
        _fail(("version",), f"expected '1.0.0', not {spec['version']!r}")
    lists: list[tuple[Any, Any]] = []
    bins = _check_channels(spec, lists)
    names, counts = [], []
    observed = "observations" in spec  # without, expected results are possible
    observations = _items(spec["observations"], ("observations",)) if observed else ()
    for i, entry in enumerate(observations):
        _keys(entry, ("name", "data"), (f"observations[{i}]",))
        names.append(_name(entry["name"], (f"observations[{i}]", "name")))
        place = (f"observations[{i}] '{names[-1]}'", "data")
        _vector(entry["data"], place, counts, bins.get(names[-1]))
    _unique(names, ("observations",), "observations")
    measurements = [
        _check_measurement(entry, (f"measurements[{i}]",), lists)
        for i, entry in enumerate(_items(spec["measurements"], ("measurements",)))
    ]
    _unique(measurements, ("measurements",), "measurements")
    _check_numbers([*lists, *counts])
    _check_counts(counts)
    return spec
