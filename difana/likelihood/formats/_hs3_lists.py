"""HS3 of current ROOT: a constraint for every bin, each a distribution of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from difana.likelihood.formats._hs3_parts import fail, get, number

if TYPE_CHECKING:
    from difana.likelihood.formats._hs3 import Reader

_GAUSSIAN = ("gaussian_dist", "normal_dist")


class Listed(NamedTuple):
    """The constraints of the bins of one modifier."""

    kind: str  # "poisson", "gaussian" or "none"
    centers: np.ndarray  # in units of the parameter
    widths: np.ndarray  # relative ones; 0 where a bin is held


def listed_constraints(
    reader: Reader, names: Any, parameters: Sequence[str], values: Sequence[float], place: str
) -> Listed:
    """Return the constraints of a list with the name of a distribution, or null, for each bin.

    Args:
        reader: What knows distributions, functions and values of parameters.
        names: The list.
        parameters: Parameter of each bin.
        values: Relative uncertainty of each bin as the modifier gives it; empty if it does not.
        place: Where the list stands, for messages.
    """
    if not isinstance(names, list) or len(names) != len(parameters):
        fail(place, f"'constraints' must be a list of {len(parameters)} names of distributions")
    centers, widths = np.ones(len(names)), np.zeros(len(names))
    kinds: dict[str, int] = {}
    for b, (name, parameter) in enumerate(zip(names, parameters, strict=True)):
        given = values[b] if len(values) else None
        if name is None:
            held = reader.points.get(parameter, {}).get("const", False) is True
            if not held and given != 0:
                kinds["none"] = b
            continue
        if not isinstance(name, str) or name not in reader.distributions:
            fail(place, f"no distribution {name!r} for the constraint of bin {b}")
        entry, where = reader.distributions[name], f"distribution '{name}'"
        if entry.get("type") in _GAUSSIAN:
            kinds["gaussian"] = b
            centers[b], widths[b] = _gaussian(reader, entry, parameter, where)
        elif entry.get("type") == "poisson_dist":
            kinds["poisson"] = b
            centers[b], widths[b] = _poisson(reader, entry, parameter, given, where)
        else:
            fail(where, f"a constraint of type {entry.get('type')!r} is not supported")
    if len(kinds) > 1:
        text = ", ".join(f"{kind} (bin {b})" for kind, b in kinds.items())
        fail(place, f"its bins have constraints of different kinds: {text}; not supported")
    return Listed(next(iter(kinds), "none"), centers, widths)


def _gaussian(
    reader: Reader, entry: Mapping[str, Any], parameter: str, place: str
) -> tuple[float, float]:
    """Return centre and width of a Gaussian constraint."""
    x, mean = entry.get("x"), entry.get("mean")
    if parameter not in (x, mean):
        fail(place, f"neither 'x' nor 'mean' is '{parameter}'")
    center = reader.value(mean if x == parameter else x, place)
    width = reader.value(entry.get("sigma"), place)
    if not width > 0:
        fail(place, f"'sigma' is {width:g}; it must be positive")
    return center, width


def _poisson(
    reader: Reader, entry: Mapping[str, Any], parameter: str, given: float | None, place: str
) -> tuple[float, float]:
    """Return centre and width of a Poisson constraint: tau times the factor is expected.

    ROOT leaves the product of both out of the file: tau is then that of the uncertainty given with
    the modifier, or the counts themselves.
    """
    counts, mean = reader.value(entry.get("x"), place), entry.get("mean")
    tau = 1.0 if mean == parameter else _product(reader, mean, parameter)
    if tau is None:
        if not isinstance(mean, str) or not mean.startswith(parameter):
            fail(place, f"'mean' is {mean!r}, which is not made of '{parameter}'")
        square = float(given or 0.0) ** 2
        tau = 1.0 / square if square > 0 else counts
    if not 0 < tau < 1e100:
        fail(place, f"{tau:g} auxiliary counts expected; there must be some")
    if counts < 0:
        fail(place, f"{counts:g} auxiliary counts; they cannot be negative")
    return counts / tau, tau**-0.5


def _product(reader: Reader, name: Any, parameter: str) -> float | None:
    """Return what multiplies a parameter in a function; None without that function."""
    if not isinstance(name, str) or name not in reader.functions:
        return None
    entry, place = reader.functions[name], f"function '{name}'"
    if entry.get("type") != "product":
        fail(place, f"type {entry.get('type')!r} is not supported in a constraint")
    factors = get(entry, "factors", place, (list,))
    if factors.count(parameter) != 1:
        fail(place, f"it does not hold '{parameter}' once")
    found = 1.0
    for factor in factors:
        if factor != parameter:
            found *= _constant(reader, factor, place)
    return found


def _constant(reader: Reader, entry: Any, place: str) -> float:
    try:  # ROOT writes constants as text, too
        return number({"value": float(entry)}, "value", place)
    except (TypeError, ValueError):
        return reader.value(entry, place)
