"""One check for every option that counts something: steps, events, bins, replicas, ..."""

from __future__ import annotations

import math
import operator
from typing import Any

from difana._errors import ConfigError

MOST = 2**31 - 1


def whole_number(name: str, value: Any, *, least: int = 1) -> int:
    """Return an option that counts something as a plain ``int``.

    Args:
        name: What the option is called.
        value: What was given: an ``int``, or an integer of NumPy or JAX; no truth value.
        least: Smallest value with a meaning.

    Raises:
        ConfigError: If it is no whole number, or out of range; says what was given.

    Example:
        >>> whole_number("steps", 10)
        10
        >>> whole_number("steps", 2.5)
        Traceback (most recent call last):
        difana._errors.ConfigError: steps = 2.5: must be a whole number (an int) of at least 1.
    """
    what = f"{name} = {value!r}: must be a whole number (an int) of at least {least}."
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":
        raise ConfigError(what)
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ConfigError(what) from error
    if number < least:
        raise ConfigError(f"{name} = {number}: must be at least {least}.")
    if number > MOST:
        raise ConfigError(f"{name} = {number}: must be at most {MOST}.")
    return number


def real_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> float:
    """Return an option that measures something as a plain ``float``; NaN and infinity are refused.

    Args:
        name: What the option is called.
        value: What was given.
        above: It must be above this.
        least: It must be at least this.
        most: It must be at most this.

    Raises:
        ConfigError: If it is no number, not finite, or out of range; says what was given.

    Example:
        >>> real_number("max_rise", float("nan"))
        Traceback (most recent call last):
        difana._errors.ConfigError: max_rise = nan: must be a finite number.
    """
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{name} = {value!r}: must be a finite number.")
    if above is not None and not number > above:
        raise ConfigError(f"{name} = {number:g}: must be above {above:g}.")
    if least is not None and not number >= least:
        raise ConfigError(f"{name} = {number:g}: must be at least {least:g}.")
    if most is not None and not number <= most:
        raise ConfigError(f"{name} = {number:g}: must be at most {most:g}.")
    return number
