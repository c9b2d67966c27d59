"""The functions an expression may call, for numpy, awkward and jax.numpy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from difana._errors import InputError

_ELEMENTWISE = (
    *("sqrt", "exp", "expm1", "log", "log10", "log1p", "abs", "sign", "floor", "ceil", "hypot"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "minimum", "maximum"),
    *("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "isfinite", "isnan"),
    *("logical_and", "logical_or", "logical_not"),
)
_SHORT = {
    "acos": "arccos",
    "asin": "arcsin",
    "atan": "arctan",
    "atan2": "arctan2",
    "acosh": "arccosh",
    "asinh": "arcsinh",
    "atanh": "arctanh",
}


@functools.cache
def table(xp: Any) -> Mapping[str, Callable[..., Any]]:
    """Return the functions by name for one array library."""
    awkward = xp.__name__ == "awkward"
    ufuncs = np if awkward else xp  # awkward arrays answer to the ufuncs of numpy
    known: dict[str, Callable[..., Any]] = {name: getattr(ufuncs, name) for name in _ELEMENTWISE}
    known |= {short: known[name] for short, name in _SHORT.items()}
    known |= {
        "where": xp.where,
        "clip": lambda x, low, high: ufuncs.minimum(ufuncs.maximum(x, low), high),
        "deltaphi": lambda a, b: (a - b + np.pi) % (2 * np.pi) - np.pi,
        "fill": functools.partial(_fill, xp),
        "at": functools.partial(_at, xp),
        "num": functools.partial(_num, xp),
        "count": functools.partial(_count, xp),
        "min": functools.partial(_extremum, xp, "min", ufuncs.minimum),
        "max": functools.partial(_extremum, xp, "max", ufuncs.maximum),
    }
    for name in ("sum", "mean", "any", "all", "sort"):
        known[name] = functools.partial(_inner, xp, name)
    return known


def number(x: Any) -> Any:
    """Return ``x`` fit for arithmetic: booleans and unsigned integers become signed.

    Otherwise ``(a > 1) + (b > 2)`` is a logical or, and ``nJet - 3`` wraps around at zero.
    """
    if isinstance(x, bool):
        return int(x)
    kind = _kind(x)
    if kind not in ("b", "u"):
        return x
    if hasattr(x, "layout"):
        import awkward as ak

        return ak.values_astype(x, np.int64)
    if isinstance(x, np.ndarray | np.generic):
        return x.astype(np.int64)
    return x.astype(int)  # jax: the default integer, so that no warning is raised


def _kind(x: Any) -> str:
    """Return the dtype kind of an array of any library, or an empty string."""
    if hasattr(x, "layout"):
        import awkward as ak

        layout = ak.to_layout(x)
        while hasattr(layout, "content"):
            if layout.parameter("__array__") == "string":
                return "U"
            layout = layout.content
        return layout.dtype.kind if hasattr(layout, "dtype") else ""
    return np.dtype(x.dtype).kind if hasattr(x, "dtype") else ""


def _require_inner(name: str, x: Any) -> None:
    """Refuse a reduction over events: a selection of one event must not depend on the others."""
    if getattr(x, "ndim", 0) < 2:
        raise InputError(
            f"{name}() runs over the entries of one event, but its argument has one number an event"
        )


def _inner(xp: Any, name: str, x: Any) -> Any:
    _require_inner(name, x)
    return getattr(xp, name)(number(x) if name in ("sum", "mean") else x, axis=-1)


def _extremum(xp: Any, name: str, pairwise: Callable[..., Any], *args: Any) -> Any:
    if len(args) > 1:
        return functools.reduce(pairwise, args)
    return _inner(xp, name, *args)


def _num(xp: Any, x: Any) -> Any:
    _require_inner("num", x)
    if xp.__name__ == "awkward":
        return xp.num(x, axis=-1)
    return xp.full(x.shape[:-1], x.shape[-1])


def _count(xp: Any, x: Any) -> Any:
    """Return how many entries are true; how many there are, where they are not booleans."""
    return _inner(xp, "sum", x) if _kind(x) == "b" else _num(xp, x)


def _fill(xp: Any, x: Any, value: float) -> Any:
    """Replace missing entries and not-a-number by ``value``."""
    if xp.__name__ == "awkward":
        x = xp.fill_none(x, value, axis=-1)
        return xp.where(np.isnan(x), value, x) if _kind(x) == "f" else x
    return xp.where(xp.isnan(x), value, x)


def _at(xp: Any, x: Any, index: int, default: float) -> Any:
    """Return entry ``index`` of each event, ``default`` where the event has fewer."""
    _require_inner("at", x)
    if not isinstance(index, int) or index < 0:
        raise InputError(f"at(x, index, default): the index must be 0, 1, ..., got {index}")
    if xp.__name__ == "awkward":
        padded = xp.pad_none(x, index + 1, axis=1, clip=True)
        return xp.fill_none(padded[:, index], default, axis=0)
    return x[:, index] if index < x.shape[1] else xp.full(x.shape[:1], default)
