"""Arithmetic and comparisons of numpy arrays in which no integer wraps around or is rounded.

Integers and booleans of any width become 64-bit integers, floating-point numbers double precision.
A result beyond 64 bits is an error: the remedy, floating-point arithmetic, is the user's choice.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from difana._errors import InputError

_LIMIT = 2**63
_SAFE = 9.2e18  # a product whose floating-point estimate is smaller fits into 64 bits
_WHOLE = 2**53  # floating-point numbers hold every integer up to here


def number(x: Any) -> Any:
    """Return ``x`` in 64 bits: a Python number, or an array of int64, uint64 or float64.

    Unsigned integers stay unsigned only where a value needs it.

    Raises:
        InputError: If ``x`` holds something else, e.g. complex numbers or times.

    Example:
        >>> number(np.array([1, 200], np.uint8)).dtype, number(np.ones(1, np.float32)).dtype
        (dtype('int64'), dtype('float64'))
    """
    if isinstance(x, int):
        return int(x)
    if isinstance(x, float):
        return float(x)
    x = np.asarray(x)
    match x.dtype.kind:
        case "b" | "i":
            return x.astype(np.int64, copy=False)
        case "u":
            fits = x.dtype.itemsize < 8 or x.size == 0 or int(x.max()) < _LIMIT
            return x.astype(np.int64) if fits else x
        case "f":
            return x.astype(np.float64, copy=False)
    raise InputError(f"a value of type {x.dtype} is no number")


def add(a: Any, b: Any) -> Any:
    """Return ``a + b``."""
    return _binary(operator.add, lambda a, b, r: ((a ^ r) & (b ^ r)) < 0, a, b)


def subtract(a: Any, b: Any) -> Any:
    """Return ``a - b``."""
    return _binary(operator.sub, lambda a, b, r: ((a ^ b) & (a ^ r)) < 0, a, b)


def multiply(a: Any, b: Any) -> Any:
    """Return ``a * b``."""

    def may_wrap(a: Any, b: Any, r: Any) -> Any:
        return np.abs(np.multiply(a, b, dtype=np.float64)) >= _SAFE

    return _binary(operator.mul, may_wrap, a, b)


def divide(a: Any, b: Any) -> Any:
    """Return the floating-point ``a / b``."""
    a, b = number(a), number(b)
    return _scalar(np.divide, a, b) if _plain(a, b) else np.divide(a, b)


def floor_divide(a: Any, b: Any) -> Any:
    """Return ``a // b``; not finite where ``b`` is zero."""
    return _quotient(operator.floordiv, np.floor_divide, a, b)


def modulo(a: Any, b: Any) -> Any:
    """Return ``a % b``, of the sign of ``b``; not a number where ``b`` is zero."""
    return _quotient(operator.mod, np.mod, a, b)


def power(a: Any, b: Any) -> Any:
    """Return ``a ** b``, an integer where both are and ``b`` is not negative."""
    a, b = number(a), number(b)
    whole = _integers(a, b) and not np.any(np.less(b, 0))
    if not whole:
        return _scalar(np.power, a, b) if _plain(a, b) else np.power(_float(a), _float(b))
    estimate = np.power(_float(a), _float(b))
    if not np.all(np.abs(estimate) < 2.1 * _LIMIT):
        if _plain(a, b):
            return float(a) ** b  # overflows at once for 9**9**9
        raise _beyond("**")
    if _plain(a, b):
        return a**b
    if np.all(np.abs(estimate) < _SAFE) and _is_int64(a) and _is_int64(b):
        return np.power(_int64(a), _int64(b))
    return _exactly(operator.pow, a, b)


def negative(x: Any) -> Any:
    """Return ``-x``."""
    return subtract(0, x) if _integers(number(x)) else -number(x)


def absolute(x: Any) -> Any:
    """Return the absolute value."""
    x = number(x)
    if not _integers(x) or _plain(x):
        return abs(x)
    return np.abs(x) if not np.any(x == -_LIMIT) else _exactly(lambda a, _: abs(a), x, 0)


def compare(name: str) -> Callable[[Any, Any], Any]:
    """Return an exact comparison: ``lt``, ``le``, ``gt``, ``ge``, ``eq`` or ``ne``."""
    compared = getattr(operator, name)

    def comparison(a: Any, b: Any) -> Any:
        a, b = number(a), number(b)
        if _integers(a, b) or _plain(a, b) or not (_large(a) or _large(b)):
            return compared(a, b)
        return np.asarray(compared(_objects(a), _objects(b))).astype(bool)

    return comparison


def bitwise(name: str) -> Callable[[Any, Any], Any]:
    """Return ``and_``, ``or_`` or ``xor`` of booleans or of the bits of integers."""
    combined = getattr(operator, name)

    def combination(a: Any, b: Any) -> Any:
        if _is_condition(a) and _is_condition(b):
            return combined(a, b)
        a, b = together(a, b)
        if not _integers(a, b):
            raise InputError(
                "'&', '|' and '^' combine conditions or integers, not numbers with fractions"
            )
        return combined(a, b)

    return combination


def invert(x: Any) -> Any:
    """Return ``~x`` of booleans or of the bits of integers."""
    if isinstance(x, bool):
        return not x
    if _is_condition(x):
        return ~x
    x = number(x)
    if not _integers(x):
        raise InputError("'~' negates conditions or integers, not numbers with fractions")
    return ~x


def together(*values: Any) -> tuple[Any, ...]:
    """Return numbers of one type, so that none is rounded when they meet in one array.

    Raises:
        InputError: If integers from below zero to above 2**63 meet.

    Example:
        >>> [x.dtype for x in together(np.array([2**63], np.uint64), np.array([1]))]
        [dtype('uint64'), dtype('uint64')]
    """
    values = tuple(number(value) for value in values)
    if not _integers(*values) or _plain(*values):
        return values
    if all(_in_range(value, -_LIMIT, _LIMIT) for value in values):
        return tuple(_int64(value) for value in values)
    if all(_in_range(value, 0, 2 * _LIMIT) for value in values):
        return tuple(np.asarray(value, np.uint64) for value in values)
    raise InputError("negative integers and integers above 2**63 do not fit into one column")


def above(x: Any, limit: int) -> bool:
    """Say whether an array has an integer beyond ``limit`` or ``-limit``.

    Example:
        >>> above(np.array([2**60]), 2**53), above(np.array([1e300]), 2**53)
        (True, False)
    """
    return _integers(x) and not _in_range(x, -limit, limit + 1)


def _binary(operation: Callable, may_wrap: Callable, a: Any, b: Any) -> Any:
    a, b = number(a), number(b)
    if not _integers(a, b):
        a, b = _float(a), _float(b)
        return _scalar(operation, a, b) if _plain(a, b) else operation(a, b)
    if _plain(a, b):
        return operation(a, b)
    if _is_int64(a) and _is_int64(b):
        left, right = _int64(a), _int64(b)
        result = operation(left, right)
        if not np.any(may_wrap(left, right, result)):
            return result
    return _exactly(operation, a, b)


def _quotient(operation: Callable, floating: Callable, a: Any, b: Any) -> Any:
    a, b = number(a), number(b)
    if not _integers(a, b):
        return _scalar(floating, a, b) if _plain(a, b) else floating(_float(a), _float(b))
    zero = np.equal(b, 0)
    safe = np.where(zero, 1, b) if np.any(zero) else b
    if _plain(a, b):
        return operation(a, b) if not zero else _scalar(floating, a, b)
    if _is_int64(a) and _is_int64(safe) and not np.any(np.equal(a, -_LIMIT)):
        found = operation(_int64(a), _int64(safe))
    else:
        found = _exactly(operation, a, safe)
    if not np.any(zero):
        return found
    if _large(np.where(zero, 0, found)):
        raise InputError("an integer is divided by zero: exclude such entries in the selection")
    return np.where(zero, floating(_float(a), _float(b)), found)


def _exactly(operation: Callable, a: Any, b: Any) -> Any:
    """Calculate with the integers of Python; the result must fit into 64 bits."""
    found = np.asarray(operation(_objects(a), _objects(b)))
    low, high = found.min(initial=0), found.max(initial=0)
    if low >= -_LIMIT and high < _LIMIT:
        return found.astype(np.int64)
    if low >= 0 and high < 2 * _LIMIT:
        return found.astype(np.uint64)
    raise _beyond(_SYMBOLS.get(operation, "an operation"))


_SYMBOLS = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.pow: "**",
    operator.floordiv: "//",
    operator.mod: "%",
}


def _beyond(symbol: str) -> InputError:
    return InputError(
        f"the result of '{symbol}' on integers does not fit into 64 bits; write 1.0 * x for "
        "floating-point arithmetic"
    )


def _scalar(operation: Callable, a: Any, b: Any) -> float:
    """Return what numpy gives for two Python numbers: not finite where Python raises."""
    return float(operation(np.float64(a), np.float64(b)))


def _plain(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not hasattr(value, "dtype") for value in values)


def _integers(*values: Any) -> bool:
    return all(
        isinstance(value, int) or getattr(value, "dtype", np.dtype(float)).kind in "iu"
        for value in values
    )


def _is_condition(x: Any) -> bool:
    return isinstance(x, bool) or getattr(x, "dtype", np.dtype(float)).kind == "b"


def _is_int64(x: Any) -> bool:
    return -_LIMIT <= x < _LIMIT if isinstance(x, int) else x.dtype == np.int64


def _int64(x: Any) -> Any:
    return np.asarray(x, np.int64)


def _float(x: Any) -> Any:
    return float(x) if isinstance(x, int) else np.asarray(x, np.float64)


def _objects(x: Any) -> Any:
    return np.asarray(x).astype(object) if hasattr(x, "dtype") else x


def _in_range(x: Any, low: int, stop: int) -> bool:
    if isinstance(x, int):
        return low <= x < stop
    return x.size == 0 or (low <= int(x.min()) and int(x.max()) < stop)


def _large(x: Any) -> bool:
    """Say whether ``x`` has integers that floating-point numbers cannot hold."""
    return above(x, _WHOLE)
