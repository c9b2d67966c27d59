"""The operations and functions of an expression, for numpy, awkward and jax.numpy."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data import _exact
from difana.data._lift import kind_of, lifted

_UNARY = (
    *("sqrt", "exp", "expm1", "log", "log10", "log1p", "sign", "floor", "ceil"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan"),
    *("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"),
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
_SIGNATURES = {
    **dict.fromkeys((*_UNARY, "abs", "isfinite", "isnan", "logical_not"), "x"),
    **dict.fromkeys(("sum", "mean", "any", "all", "sort", "num", "count"), "x"),
    **dict.fromkeys(("min", "max"), "x, ..."),
    **dict.fromkeys(("minimum", "maximum", "logical_and", "logical_or"), "x, y, ..."),
    **dict.fromkeys(("hypot", "deltaphi"), "x, y"),
    "arctan2": "y, x",
    "where": "condition, x, y",
    "clip": "x, low, high",
    "fill": "x, value",
    "at": "x, index, default",
}
SIGNATURES: Mapping[str, str] = _SIGNATURES | {k: _SIGNATURES[v] for k, v in _SHORT.items()}
"""The arguments of each function."""


def check_arguments(name: str, number: int) -> None:
    """Refuse a call with too many or too few arguments.

    Raises:
        InputError: With the signature of the function.

    Example:
        >>> check_arguments("hypot", 3)
        Traceback (most recent call last):
        difana._errors.InputError: hypot(x, y) takes 2 arguments, not 3
    """
    arguments = SIGNATURES[name].split(", ")
    least = len(arguments) - ("..." in arguments)
    if number < least or (number > least and "..." not in arguments):
        more = "at least " if "..." in arguments else ""
        plural = "" if least == 1 else "s"
        raise InputError(
            f"{name}({SIGNATURES[name]}) takes {more}{least} argument{plural}, not {number}"
        )


@functools.cache
def operators(xp: Any) -> Mapping[str, Callable[..., Any]]:
    """Return the operators by the name of their node in a syntax tree, for one array library."""
    if xp.__name__ == "jax.numpy":
        return _TRACED
    found = {
        "Add": _exact.add,
        "Sub": _exact.subtract,
        "Mult": _exact.multiply,
        "Div": _exact.divide,
        "FloorDiv": _exact.floor_divide,
        "Mod": _exact.modulo,
        "Pow": _exact.power,
        "USub": _exact.negative,
        "Invert": _exact.invert,
        "BitAnd": _exact.bitwise("and_"),
        "BitOr": _exact.bitwise("or_"),
        "BitXor": _exact.bitwise("xor"),
    }
    found |= {node: _exact.compare(name) for node, name in _COMPARED.items()}
    table = {node: lifted(function, xp) for node, function in found.items()}
    return table | {node: _comparison(table[node], node) for node in _COMPARED}


@functools.cache
def table(xp: Any) -> Mapping[str, Callable[..., Any]]:
    """Return the functions by name for one array library."""
    traced = xp.__name__ == "jax.numpy"
    lift = (lambda f: f) if traced else functools.partial(lifted, xp=xp)
    prepared = number if traced else _exact.number
    ufuncs = xp if traced else np

    def elementwise(function: Callable) -> Callable:
        return lift(lambda *args: function(*map(prepared, args)))

    known = {name: elementwise(getattr(ufuncs, name)) for name in (*_UNARY, "hypot", "arctan2")}
    known["abs"] = xp.abs if traced else lift(_exact.absolute)
    smallest, largest = (
        getattr(ufuncs, name) if traced else lift(_of_one_type(getattr(ufuncs, name)))
        for name in ("minimum", "maximum")
    )
    known |= {
        "minimum": functools.partial(_reduced, smallest),
        "maximum": functools.partial(_reduced, largest),
        "logical_and": functools.partial(_reduced, lift(ufuncs.logical_and)),
        "logical_or": functools.partial(_reduced, lift(ufuncs.logical_or)),
        "logical_not": lift(ufuncs.logical_not),
        "isfinite": functools.partial(_test, xp, elementwise(ufuncs.isfinite), False),  # noqa: FBT003
        "isnan": functools.partial(_test, xp, elementwise(ufuncs.isnan), True),  # noqa: FBT003
        "where": functools.partial(_where, xp, xp.where if traced else lift(_choose)),
        "clip": lambda x, low, high: smallest(largest(x, low), high),
        "deltaphi": elementwise(lambda a, b: (a - b + np.pi) % (2 * np.pi) - np.pi),
        "fill": functools.partial(_fill, xp),
        "at": functools.partial(_at, xp),
        "num": functools.partial(_num, xp),
        "count": functools.partial(_count, xp),
        "min": functools.partial(_extremum, xp, "min", smallest),
        "max": functools.partial(_extremum, xp, "max", largest),
    }
    for name in ("sum", "mean", "any", "all", "sort"):
        known[name] = functools.partial(_inner, xp, name)
    known |= {short: known[name] for short, name in _SHORT.items()}
    takes_texts = ("where", "fill", "num", "count", "at")
    return {
        name: function if name in takes_texts else functools.partial(_of_numbers, name, function)
        for name, function in known.items()
    }


def number(x: Any) -> Any:
    """Return an array of JAX fit for arithmetic: booleans and narrow integers become integers.

    Otherwise ``(a > 1) + (b > 2)`` is a logical or, and ``nJet - 3`` wraps around at zero.
    """
    if isinstance(x, bool):
        return int(x)
    # the default integer, so that no warning is raised
    return x.astype(int) if kind_of(x) in ("b", "i", "u") else x


def require_no_text(what: str, *values: Any) -> None:
    """Refuse texts where numbers are needed.

    Raises:
        InputError: If a value is a text; ``what`` says where.
    """
    if any(kind_of(value) == "U" for value in values):
        raise InputError(f"{what} needs numbers, but got text; a text is compared: name == 'a'")


_COMPARED = {"Lt": "lt", "LtE": "le", "Gt": "gt", "GtE": "ge", "Eq": "eq", "NotEq": "ne"}


def _traced(of_constants: Callable, function: Callable) -> Callable:
    """Return an operator of arrays of JAX; constants meet as everywhere else."""

    def operation(*args: Any) -> Any:
        if all(isinstance(arg, int | float) for arg in args):
            return of_constants(*args)
        return function(*map(number, args))

    return operation


_TRACED: Mapping[str, Callable[..., Any]] = {
    "Add": _traced(_exact.add, operator.add),
    "Sub": _traced(_exact.subtract, operator.sub),
    "Mult": _traced(_exact.multiply, operator.mul),
    "Div": _traced(_exact.divide, operator.truediv),
    "FloorDiv": _traced(_exact.floor_divide, operator.floordiv),
    "Mod": _traced(_exact.modulo, operator.mod),
    "Pow": _traced(_exact.power, lambda a, b: (float(a) if isinstance(a, int) else a) ** b),
    "USub": _traced(_exact.negative, operator.neg),
    "Invert": lambda x: not x if isinstance(x, bool) else ~x,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
    "BitXor": operator.xor,
    **{node: getattr(operator, name) for node, name in _COMPARED.items()},
}


def _comparison(of_numbers: Callable, node: str) -> Callable:
    """Return a comparison of numbers or of texts; a missing one is unequal to everything."""

    def compared(a: Any, b: Any) -> Any:
        texts = [kind_of(value) == "U" for value in (a, b)]
        if any(texts):
            if not all(texts) or node not in ("Eq", "NotEq"):
                raise InputError(
                    "a text can only be compared with a text, by == or !=, as in name == 'a'"
                )
            return _filled(getattr(operator, _COMPARED[node])(a, b), node == "NotEq")
        return _filled(of_numbers(a, b), node == "NotEq")

    return compared


def _filled(x: Any, value: Any) -> Any:
    """Replace what is missing."""
    if not hasattr(x, "layout"):
        return x
    import awkward as ak

    return ak.fill_none(x, value, axis=-1)


def _of_numbers(name: str, function: Callable, *args: Any) -> Any:
    require_no_text(f"{name}()", *args)
    return function(*args)


def _of_one_type(function: Callable) -> Callable:
    return lambda *args: function(*_exact.together(*args))


def _reduced(function: Callable, *args: Any) -> Any:
    return functools.reduce(function, args)


def _choose(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, *_exact.together(x, y))


def _where(xp: Any, of_numbers: Callable, condition: Any, x: Any, y: Any) -> Any:
    if kind_of(x) == "U" or kind_of(y) == "U":
        return xp.where(condition, x, y)
    return of_numbers(condition, x, y)


def _test(xp: Any, function: Callable, missing: bool, x: Any) -> Any:  # noqa: FBT001
    """Call ``isfinite`` or ``isnan``: what is missing is not a number."""
    return _filled(function(x), missing)


def _require_inner(name: str, x: Any) -> None:
    """Refuse a reduction over events: a selection of one event must not depend on the others."""
    if getattr(x, "ndim", 0) < 2:
        raise InputError(
            f"{name}() runs over the entries of one event, but its argument has one number an event"
        )


def _inner(xp: Any, name: str, x: Any) -> Any:
    """Reduce or sort each list; one that holds not-a-number gives not-a-number."""
    _require_inner(name, x)
    if xp.__name__ == "jax.numpy":
        return getattr(xp, name)(number(x) if name in ("sum", "mean") else x, axis=-1)
    if name in ("any", "all"):
        return getattr(xp, name)(x, axis=-1)
    x = lifted(_exact.number, xp)(x)
    if name == "sum" and kind_of(x) in "iu":
        # an estimate finds what would wrap around
        total = xp.sum(lifted(lambda y: np.abs(np.asarray(y, float)), xp)(x), axis=-1)
        if len(total) and xp.max(total) >= 9.2e18:
            raise InputError("a sum of integers does not fit into 64 bits; write sum(1.0 * x)")
    found = getattr(xp, name)(x, axis=-1)
    if kind_of(x) != "f":
        return found
    spoilt = xp.any(lifted(np.isnan, xp)(x), axis=-1)
    return lifted(lambda bad, y: np.where(bad, np.nan, y), xp)(spoilt, found)


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
    return _inner(xp, "sum", x) if kind_of(x) == "b" else _num(xp, x)


def _fill(xp: Any, x: Any, value: Any) -> Any:
    """Replace missing entries and not-a-number by ``value``."""
    if (kind_of(x) == "U") != isinstance(value, str):
        raise InputError("fill(x, value): a text is filled with a text, a number with a number")
    if xp.__name__ == "awkward":
        x = _filled(x, value)
    if kind_of(x) != "f":
        return x
    if xp.__name__ == "jax.numpy":
        return xp.where(xp.isnan(x), value, x)
    return lifted(lambda y, v: np.where(np.isnan(y), v, y), xp)(x, value)


def _at(xp: Any, x: Any, index: int, default: float) -> Any:
    """Return entry ``index`` of each event, ``default`` where the event has fewer."""
    _require_inner("at", x)
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise InputError(f"at(x, index, default): the index must be 0, 1, ..., got {index}")
    if xp.__name__ == "awkward":
        there = xp.num(x, axis=1) > index
        if not xp.any(there):
            index = 0
            x = xp.mask(xp.pad_none(x, 1, axis=1), there)
        else:
            x = xp.mask(x, there)
        return xp.fill_none(x[:, index], default, axis=0)
    return x[:, index] if index < x.shape[1] else xp.full(x.shape[:1], default)
