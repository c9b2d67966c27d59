"""Typed access to the parts of HS3 JSON; every failure names the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from difana._errors import ModelError


def fail(place: str, problem: str) -> NoReturn:
    raise ModelError(f"not valid HS3: {place}: {problem}")


def get(entry: Any, key: str, place: str, kinds: tuple[type, ...], default: Any = None) -> Any:
    """Return an entry of an object, of one of some types."""
    if not isinstance(entry, Mapping):
        fail(place, f"expected an object, not a {type(entry).__name__}")
    if key not in entry:
        if default is None:
            fail(place, f"the key '{key}' is missing")
        return default
    if not isinstance(entry[key], kinds) or (isinstance(entry[key], bool) and bool not in kinds):
        wanted = " or ".join("an object" if k is Mapping else k.__name__ for k in kinds)
        fail(f"{place}, '{key}'", f"expected {wanted}, not {type(entry[key]).__name__}")
    return entry[key]


def named_entries(entries: Any, place: str) -> dict[str, Mapping[str, Any]]:
    """Return a list of named objects by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for i, entry in enumerate(entries):
        name = get(entry, "name", f"{place}[{i}]", (str,))
        if name in found:
            fail(place, f"two are called '{name}'")
        found[name] = entry
    return found


def numbers(entry: Any, key: str, place: str, size: int | None = None) -> np.ndarray:
    """Return a list of finite numbers."""
    values = get(entry, key, place, (list,))
    if not values or any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in values):
        fail(f"{place}, '{key}'", "expected a list of numbers")
    if any(not abs(x) <= 1e100 for x in values):
        fail(f"{place}, '{key}'", "a number is not finite or beyond 1e+100")
    if size is not None and len(values) != size:
        fail(f"{place}, '{key}'", f"{len(values)} numbers where {size} are needed")
    return np.array(values, float)


def number(entry: Any, key: str, place: str) -> float:
    value = get(entry, key, place, (int, float))
    if not abs(value) <= 1e100:
        fail(f"{place}, '{key}'", "the number is not finite or beyond 1e+100")
    return float(value)


def bins_of(axes: Any, place: str) -> int:
    """Return the number of bins of a histogram."""
    total = 1
    for i, axis in enumerate(axes):
        where = f"{place}, axes[{i}]"
        edges = "edges" if "edges" in axis else "bounds"  # the latter in files of older ROOT
        if isinstance(axis, Mapping) and edges in axis:
            values = numbers(axis, edges, where)
            if (np.diff(values) <= 0).any():
                fail(where, "edges must increase")
            total *= len(values) - 1
        else:
            total *= get(axis, "nbins", where, (int,))
    if not 0 < total < 10_000_000:
        fail(place, f"{total} bins")
    return total
