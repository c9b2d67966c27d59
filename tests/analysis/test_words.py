"""What is said of a result: limits first, digits as the errors deserve."""

from __future__ import annotations

from typing import Any

from difana.analysis.words import comparison_table, headline


def summary(**more: Any) -> dict[str, Any]:
    rows = [
        {"name": name, "bins": {"SR": 4}, "limit": limit, "limits": [0.5 * limit, 0.7 * limit,
         limit, 1.4 * limit, 2 * limit], "significance": 2.0, **own}
        for name, limit, own in (("one bin", 5.0, {}), ("difana", 1.0743, more))
    ]  # fmt: skip
    broken = {"name": "broken", "bins": {}, "limit": None, "limits": [], "significance": None}
    rows.insert(1, broken)
    expected = rows[-1]["limits"]
    limits = {"expected": expected, "significance": 2.0, "observed": None}
    return {"poi": "mu_X", "limits": limits, "comparison": rows}


def test_expected_limit_without_data() -> None:
    said = "68 % band 0.75 to 1.50, 95 % 0.54 to 2.15"
    assert headline(summary()) == [("expected limit", "mu_X < 1.07", said)]


def test_observed_limit_stands_first() -> None:
    found = summary()
    found["limits"]["observed"] = {"limit": 0.91, "cls": 0.0312, "significance": 0.12,
                                   "expected_limits": [0.4, 0.5, 0.8, 1.1, 1.6]}  # fmt: skip
    names = [name for name, _, _ in headline(found)]
    assert names == ["observed limit", "expected limit", "observed significance"]
    values = [value for _, value, _ in headline(found)]
    assert values == [
        "mu_X < 0.910",
        "mu_X < 0.800",
        "0.12 sigma",
    ]  # the band as fitted to the data
    assert "0.0312" in headline(found)[0][2]
    found["limits"]["observed"]["limit"] = None  # no limit was found
    assert headline(found)[0][1] == "mu_X < -"


def test_a_blinded_limit_is_that_after_the_control_fit() -> None:
    found = summary() | {"blinded": ["SR"]}
    found["limits"]["control_fit"] = {"limits": [0.4, 0.5, 0.8, 1.1, 1.6]}
    said = "68 % band 0.500 to 1.100, 95 % 0.400 to 1.600, blinded"
    assert headline(found) == [("expected limit", "mu_X < 0.800", said)]


def test_table_of_observables() -> None:
    columns, rows = comparison_table(summary())
    assert columns == ["observable", "bins", "mu_X <", "68 % band", "Z", "gain of difana"]
    assert rows[0] == ["one bin", "4", "5.00", "3.50 to 7.00", "2.00", "+78.5 %"]
    assert rows[1] == ["broken", "0", "-", "-", "-", ""]
    assert rows[2][-1] == ""
    found = summary(error=0.0213, retained=0.874, observable="score")
    said = "68 % band 0.752 to 1.504, 95 % 0.537 to 2.149; ± 0.021 from the size of the simulation"
    assert headline(found) == [("expected limit", "mu_X < 1.074", said)]
    columns, rows = comparison_table(found)
    assert columns[5] == "information"
    assert rows[2] == ["difana (score)", "4", "1.074 ± 0.021", "0.752 to 1.504", "2.00", "87 %", ""]
    assert rows[0][5] == ""
