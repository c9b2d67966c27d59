"""Digits by the rule of the Particle Data Group."""

from __future__ import annotations

import math

import pytest

from difana._rounding import decimals_of, rounded, shown


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.827, 0.119, "0.83 ± 0.12"),  # the examples of the Review of Particle Physics
        (0.827, 0.367, "0.8 ± 0.4"),
        (12.3456, 0.0354, "12.346 ± 0.035"),
        (12.3456, 0.0355, "12.35 ± 0.04"),
        (14.674, 0.964, "14.7 ± 1.0"),
        (0.9999, 0.00999, "1.000 ± 0.010"),
        (1234.5, 123.4, "1230 ± 120"),
        (-5.0, 0.5, "-5.0 ± 0.5"),
        (3.21e-9, 4.4e-10, "3.2e-09 ± 4e-10"),
        (3.21e7, 1.2e6, "3.21e+07 ± 1.2e+06"),
        (0.0, 0.02, "0.000 ± 0.020"),
        (1.0, math.nan, "1.00"),
        (math.nan, 1.0, "-"),
    ],
)
def test_value_and_error(value: float, error: float, text: str) -> None:
    assert rounded(value, error) == text


def test_two_errors_and_none() -> None:
    assert rounded(1.0743, 0.468, 0.0317) == "1.074 +0.468 -0.032"
    assert rounded(1.0743, None) == "1.07"
    assert [rounded(x) for x in (57.741, 0.012345, 1234.5, 0.0)] == [
        "57.7",
        "0.0123",
        "1230",
        "0.00",
    ]
    assert decimals_of([math.inf, 0.0, 0.3]) == 2
    assert decimals_of([], otherwise=[0.5, 12.0]) == 1
    assert shown(None, 2) == "-"
    assert shown(-0.0004, 2) == "0.00"
