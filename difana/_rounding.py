"""How numbers are shown: as many digits as their uncertainty deserves."""

from __future__ import annotations

import math
from collections.abc import Iterable

_PLAIN = 1e6  # larger numbers are shown with a power of ten


def decimals_of(errors: Iterable[float], *, otherwise: Iterable[float] = ()) -> int:
    """Return the number of decimals by the rule of the Particle Data Group.

    The three leading digits of an uncertainty decide: 100 to 354 keeps two digits, 355 to 949 one,
    950 to 999 is rounded up to 1000 and keeps two. The smallest of several uncertainties counts.

    Args:
        errors: Uncertainties; those that are zero or not finite are left out.
        otherwise: Numbers that get three digits, the largest of them, where no uncertainty is left.

    Returns:
        Digits behind the point; negative for tens, hundreds, ...

    References:
        Review of Particle Physics, introduction, "Rounding".

    Example:
        >>> decimals_of([0.0327]), decimals_of([0.827]), decimals_of([964.0]), decimals_of([])
        (3, 1, -2, 2)
    """
    known = [abs(error) for error in errors if error and math.isfinite(error)]
    if not known:
        values = [abs(value) for value in otherwise if value and math.isfinite(value)]
        return 2 - math.floor(math.log10(max(values))) if values else 2
    smallest = min(known)
    order = math.floor(math.log10(smallest))
    leading = round(smallest / 10.0 ** (order - 2))
    return 1 - order if leading < 355 else -order  # from 950 on the digits are those of 1000


def shown(value: float | None, decimals: int) -> str:
    """Return a number with so many decimals; a dash where there is none.

    Example:
        >>> shown(1234.56, 1), shown(1234.56, -2), shown(float("nan"), 2), shown(-0.001, 2)
        ('1234.6', '1200', '-', '0.00')
    """
    if value is None or not math.isfinite(value):
        return "-"
    kept = round(value, decimals)
    if abs(kept) >= _PLAIN or (decimals > 6 and kept):
        digits = max(decimals + math.floor(math.log10(abs(kept))), 0) if kept else 0
        return f"{kept:.{digits}e}"
    return f"{kept + 0.0 if kept else 0.0:.{max(decimals, 0)}f}"


def rounded(value: float | None, *errors: float | None) -> str:
    """Return a number with its uncertainty, rounded together.

    Args:
        value: The number; a dash where it is None or not finite.
        errors: Nothing: three digits. One uncertainty, or one upwards and one downwards (sizes).

    Example:
        >>> rounded(0.7234, 0.0327), rounded(1.0743, 0.468, 0.317), rounded(57.741)
        ('0.723 ± 0.033', '1.07 +0.47 -0.32', '57.7')
        >>> rounded(12345.6, 987.0), rounded(0.5, 0.0), rounded(None, 1.0)
        ('12300 ± 1000', '0.500', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    known = [abs(error) for error in errors if error is not None and math.isfinite(error)]
    decimals = decimals_of(known, otherwise=[value])
    text = shown(value, decimals)
    if not any(known) or len(known) < len(errors):
        return text
    if len(known) == 1:
        return f"{text} ± {shown(known[0], decimals)}"
    return f"{text} +{shown(known[0], decimals)} -{shown(known[1], decimals)}"
