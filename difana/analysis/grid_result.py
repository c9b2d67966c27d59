"""The result of a grid of signals: a limit at every point."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from difana._result import AbstractResult
from difana._rounding import shown
from difana._status import joined
from difana.analysis.config import AnalysisConfig
from difana.analysis.hepdata import Table, Uncertainty, Variable, write_hepdata
from difana.analysis.own_code import code_of
from difana.analysis.result import AnalysisResult
from difana.config import git_hash, jsonable, versions, write_json, write_text


class GridResult(AbstractResult):
    """What `run` found for a grid of signals.

    Attributes:
        config: The configuration.
        out: The folder; each point has a folder of its own in it.
        points: The result of each point, in the order of the file.
    """

    config: AnalysisConfig
    out: Path
    points: tuple[AnalysisResult, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return jsonable(summary_of_grid(self))

    @property
    def status(self) -> int:
        """Bit flags of all points."""
        return joined([own.status for own in self.points])

    @property
    def message(self) -> str:
        """``ok``, or at which points the numbers cannot be trusted."""
        grid = self.config.grid
        assert grid is not None
        rows = zip(grid.points, self.points, strict=True)
        bad = [f"{grid.parameter} {p.value:g}: {own.message}" for p, own in rows if not own.ok]
        return "; ".join(bad) or "ok"

    @property
    def ok(self) -> bool:
        """True if the numbers of all points can be trusted."""
        return self.message == "ok"


def summary_of_grid(result: GridResult) -> dict[str, Any]:
    """Return the content of ``result.json``, points in the order of the parameter."""
    config, first = result.config, result.points[0].summary
    assert config.grid is not None
    rows = sorted(zip(config.grid.points, result.points, strict=True), key=lambda r: r[0].value)
    points = [
        {
            "sample": point.sample,
            "value": point.value,
            "folder": point.folder,
            "cross_section": point.cross_section,
            "expected": expected_of(own),
            "observed": None if (seen := own.summary["limits"]["observed"]) is None
            else seen["limit"],
            "significance": own.summary["limits"]["significance"],
            "error": own.trained.error,
            "bins": own.trained.bins,
            "status": own.message,
        }
        for point, own in rows
    ]  # fmt: skip
    said = list(dict.fromkeys(note for own in result.points for note in own.summary["notes"]))
    common = [note for note in said if all(note in own.summary["notes"] for own in result.points)]
    return {
        "status": result.message,
        "measurement": config.general.measurement,
        "regions": first["regions"],
        "poi": config.general.poi,
        "blinded": config.blinded,
        "grid": {"parameter": config.grid.parameter, "points": points},
        "notes": [
            f"one network for all points, told the {config.grid.parameter}; bins of each point",
            *common,
        ],
        "seed": config.general.seed,
        "config": config.echo,
        "code": code_of(config),
        "options": {
            "network": dataclasses.asdict(config.network),
            "training": dataclasses.asdict(config.training),
        },
        "versions": versions(),
        "git": git_hash(config.path.resolve().parent),
    }


def expected_of(own: AnalysisResult) -> list[float]:
    """Return expected limits: with data, or control regions, nuisances as fitted to these."""
    limits = own.summary["limits"]
    if limits["observed"] is not None:
        return list(limits["observed"]["expected_limits"])
    control = limits["control_fit"]
    return list(limits["expected"] if control is None else control["limits"])


def grid_table(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return names of columns and a row for each point, rounded.

    Args:
        summary: The content of ``result.json`` of a grid.

    Example:
        >>> point = {"sample": "s", "value": 300.0, "expected": [0.4, 0.5, 0.7, 1.0, 1.4],
        ...          "observed": 0.8, "significance": 2.5, "cross_section": 2.0, "status": "ok"}
        >>> columns, rows = grid_table({"poi": "mu", "grid": {"parameter": "mass",
        ...                             "points": [point]}})
        >>> columns[:3], rows[0][:3]
        (['mass', 'signal', 'expected mu <'], ['300', 's', '0.700'])
        >>> rows[0][3:]
        ['0.500 to 1.000', '0.400 to 1.400', '0.800', '2.50', '1.400', '1.600', '2.000', 'yes']
    """
    points, poi = summary["grid"]["points"], summary["poi"]
    real = any(point["observed"] is not None for point in points)
    theory = any(point["cross_section"] is not None for point in points)
    columns = [summary["grid"]["parameter"], "signal", f"expected {poi} <", "68 % band",
               "95 % band", *([f"observed {poi} <"] if real else []), "Z"]  # fmt: skip
    if theory:
        columns += ["expected cross-section <", *(["observed"] if real else []), "predicted"]
    columns.append("excluded" if real else "exclusion expected")
    rows = []
    for point in points:
        limits, seen, sigma = point["expected"], point["observed"], point["cross_section"]
        text = [shown(x, 3) for x in limits]
        row = [f"{point['value']:g}", point["sample"], text[2], f"{text[1]} to {text[3]}",
               f"{text[0]} to {text[4]}", *([shown(seen, 3)] if real else []),
               shown(point["significance"], 2)]  # fmt: skip
        if theory:
            each = [limits[2], *([seen] if real else []), 1.0]
            row += ["-" if sigma is None or x is None else shown(x * sigma, 3) for x in each]
        least = seen if real else limits[2]
        row.append("yes" if least is not None and least < 1 else "no")
        rows.append(row)
    return columns, rows


def write_grid(result: GridResult) -> None:
    """Write ``result.json``, ``history.jsonl`` and the table for HEPData of a grid."""
    summary, out = result.summary, result.out
    (out / "result.json").unlink(missing_ok=True)
    history = result.points[0].history
    write_text(out / "history.jsonl", "".join(json.dumps(jsonable(r)) + "\n" for r in history))
    comment = f"{summary['measurement']}: written by difana {summary['versions']['difana']}."
    write_hepdata(out / "hepdata", [grid_hepdata(summary)], comment=comment)
    write_json(out / "result.json", summary)


def grid_hepdata(summary: dict[str, Any]) -> Table:
    """Return the limits against the parameter as a table for HEPData."""
    points, poi = summary["grid"]["points"], summary["poi"]
    limits = np.array([p["expected"] for p in points], float)
    level = (("Confidence level", "95 %"), ("Method", "CLs, asymptotic"))
    bands = tuple(
        Uncertainty(f"{n} sigma", limits[:, 2 + n] - limits[:, 2], limits[:, 2 - n] - limits[:, 2])
        for n in (1, 2)
    )
    name = f"upper limit on {poi}"
    columns = [Variable(f"expected {name}", limits[:, 2], uncertainties=bands, qualifiers=level)]
    if any(p["observed"] is not None for p in points):
        seen = [np.nan if p["observed"] is None else p["observed"] for p in points]
        columns.append(Variable(f"observed {name}", seen, qualifiers=level))
    if any(p["cross_section"] is not None for p in points):
        theory = [np.nan if p["cross_section"] is None else p["cross_section"] for p in points]
        columns.append(Variable("predicted cross-section", theory))
    parameter = summary["grid"]["parameter"]
    return Table(
        "Limits on the grid",
        f"Upper limits on {poi} for each signal. Errors: bands of the background-only hypothesis.",
        (Variable(parameter, [p["value"] for p in points]),),
        tuple(columns),
        keywords={"observables": ["CLS"]},
    )
