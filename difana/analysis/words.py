"""A result in words: the limits as one says them, and the table of all observables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from difana._rounding import decimals_of, rounded, shown
from difana.analysis.observables import DIFANA

ERROR, RETAINED = "error", "retained"  # keys of the comparison in result.json


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what one says first: the observed limit, where there are data, and the expected one.

    Args:
        summary: The content of ``result.json``.

    Returns:
        Name, value, and what is said with it in brackets.

    Example:
        >>> limits = {"expected": [0.4, 0.55, 0.76, 1.07, 1.46], "cls": [0.01] * 5,
        ...           "significance": 2.31, "observed": None}
        >>> headline({"poi": "mu", "limits": limits, "comparison": []})
        [('expected limit', 'mu < 0.760', '68 % band 0.550 to 1.070, 95 % 0.400 to 1.460')]
    """
    own = next((e for e in summary["comparison"] if e["name"] == DIFANA), {})
    found = _of_poi(summary["poi"], summary["limits"], own.get(ERROR))
    for name, limits in summary["limits"].get("others", {}).items():
        found += _of_poi(name, limits, None)
    for name, (value, low, high) in summary.get("intervals", {}).items():
        decimals = decimals_of([high - value, value - low])
        numbers = [shown(x, decimals) for x in (value, high - value, value - low)]
        where = "" if summary["limits"]["observed"] is not None else "expected for all at 1; "
        said = f"{where}68 %: {shown(low, decimals)} to {shown(high, decimals)}"
        found.append(("interval", "{} = {} +{} -{}".format(name, *numbers), said))
    return found


def _of_poi(poi: str, limits: Mapping[str, Any], error: float | None) -> list[tuple[str, str, str]]:
    """Return the limits on one parameter of interest."""
    expected, observed = limits["expected"], limits["observed"]
    found, hidden = [], ""
    if observed is not None:
        expected = observed["expected_limits"]  # nuisances as fitted to the data
        said = f"CLs of {poi} = 1: {shown(observed['cls'], 4)}"
        found.append(("observed limit", f"{poi} < {limit_text(observed['limit'])}", said))
    elif (control := limits.get("control_fit")) is not None:
        # nuisances as fitted to the regions that are not blinded
        expected, hidden = control["limits"], ", blinded"
    band = _band(expected, error) + hidden
    if error:
        band += f"; ± {rounded(error, error).split()[0]} from the size of the simulation"
    value = rounded(expected[2], error).split()[0]
    found.append(("expected limit", f"{poi} < {value}", band))
    if observed is not None:
        said = f"expected for {poi} = 1: {shown(limits['significance'], 2)}"
        found.append(("observed significance", f"{shown(observed['significance'], 2)} sigma", said))
    return found


def observable_text(entry: Mapping[str, Any]) -> str:
    """Return what an entry of the comparison is called: its name, and which candidate it is."""
    chosen = entry.get("observable")
    return f"{entry['name']} ({chosen})" if chosen else entry["name"]


def limit_text(limit: float | None, error: float | None = None) -> str:
    """Return a limit with the statistical error of the simulation, where that is known."""
    return rounded(limit) if error is None else rounded(limit, error)


def _band(limits: Sequence[float | None], error: float | None) -> str:
    if len(limits) < 5:
        return ""
    decimals = decimals_of([error or 0.0], otherwise=[limits[2] or 0.0])
    a, b, _, c, d = (shown(x, decimals) for x in limits)
    return f"68 % band {b} to {c}, 95 % {a} to {d}"


def comparison_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str | int]]]:
    """Return names of columns, and a row for each observable, rounded.

    Columns of what no observable has are left out.

    Args:
        summary: The content of ``result.json``.

    Example:
        >>> rows = [{"name": n, "bins": {"SR": 4}, "limit": x, "limits": [x] * 5, "cls": [0.05] * 5,
        ...          "significance": 1.0, "error": 0.0213, "status": "ok", "notes": []}
        ...         for n, x in (("cross-entropy", 0.5), ("difana", 0.4))]
        >>> columns, rows = comparison_table({"poi": "mu", "comparison": rows})
        >>> columns
        ['observable', 'bins', 'mu <', '68 % band', 'Z', 'gain of difana']
        >>> rows[0]
        ['cross-entropy', '4', '0.500 ± 0.021', '0.500 to 0.500', '1.00', '+20.0 %']
    """
    entries, poi = summary["comparison"], summary["poi"]
    best = next((e["limit"] for e in entries if e["name"] == DIFANA), None)
    others = next((list(e["others"]) for e in entries if e.get("others")), [])
    columns = [
        "observable",
        "bins",
        f"{poi} <",
        *(f"{name} <" for name in others),
        "68 % band",
        "Z",
        "information",
        f"gain of {DIFANA}",
    ]
    rows: list[list[str | int]] = []
    for entry in entries:
        limits, limit = entry["limits"], entry["limit"]
        band, gain = "-", ""
        if len(limits) == 5:
            decimals = decimals_of([entry.get(ERROR) or 0.0], otherwise=[limits[2] or 0.0])
            band = f"{shown(limits[1], decimals)} to {shown(limits[3], decimals)}"
        if entry["name"] != DIFANA and best and limit:
            gain = f"{100 * (1 - best / limit):+.1f} %"
        kept = entry.get(RETAINED)
        rows.append(
            [
                observable_text(entry),
                " + ".join(map(str, entry["bins"].values())) or "0",
                limit_text(limit, entry.get(ERROR)),
                *(_other(entry, name) for name in others),
                band,
                shown(entry["significance"], 2),
                "" if kept is None else f"{100 * kept:.0f} %",
                gain,
            ]
        )
    place = columns.index("information")
    if not any(row[place] for row in rows):
        columns.pop(place)
        rows = [row[:place] + row[place + 1 :] for row in rows]
    return columns, rows


def _other(entry: Mapping[str, Any], name: str) -> str:
    """Return the limit on another parameter of interest."""
    own = entry.get("others", {}).get(name)
    return limit_text(own["limits"][2]) if own and own["limits"] else "-"
