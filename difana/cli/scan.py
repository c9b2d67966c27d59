"""``difana scan``: profile-likelihood scans of a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from difana._errors import InputError
from difana.cli._options import Number, expected_option, model_options, workspace_options
from difana.cli._output import finish, reporting, save_figure
from difana.cli._print import print_json, print_table
from difana.cli._workspace import best_fit

if TYPE_CHECKING:
    from difana.infer import FitResult, ScanResult
    from difana.likelihood import Model

_RANGE = {"nargs": 2, "type": Number(), "metavar": "LOW HIGH"}
_POINTS = click.IntRange(min=2, max=100_000)


@click.command("scan", short_help="Profile-likelihood scan in one or two parameters.")
@workspace_options
@model_options
@expected_option
@click.option("--parameter", metavar="NAME", help="Parameter; the one of interest by default.")
@click.option("--range", "limits", **_RANGE, help="By default two uncertainties on both sides.")
@click.option("--points", default=31, show_default=True, type=_POINTS)
@click.option("--parameter2", metavar="NAME", help="Second parameter.")
@click.option("--range2", "limits2", **_RANGE, help="Range of the second parameter.")
@click.option("--points2", default=31, show_default=True, type=_POINTS)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Write a picture.")
def command(
    *,
    as_json: bool,
    parameter: str | None,
    limits: tuple[float, float] | None,
    points: int,
    parameter2: str | None,
    limits2: tuple[float, float] | None,
    points2: int,
    plot: Path | None,
    **source: Any,
) -> None:
    """Print twice the rise of the profiled nll of WORKSPACE ('-': standard input)."""
    model, data, best = best_fit(**source, tested=parameter is None)
    from difana.infer import profile_scan

    first = model.parameters[model.poi_index] if parameter is None else parameter
    values = {first: _values(model, best, first, limits, points)}
    if parameter2 is not None:
        if parameter2 == first:
            raise InputError(f"'{first}' cannot be both parameters of a scan")
        values[parameter2] = _values(model, best, parameter2, limits2, points2)
    with reporting("scan") as report:
        found = profile_scan(model, data, values, fit=best, report=report)
    if plot is not None:
        from difana.plot import scan

        save_figure(scan(found), plot)
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    finish(found.verdict)


def _values(
    model: Model,
    best: FitResult,
    name: str,
    limits: tuple[float, float] | None,
    points: int,
) -> np.ndarray:
    """Return the values to scan: between the limits, or around the best fit."""
    index = model.index(name)
    if limits is None:
        value, width = float(best.params[index]), float(best.uncertainties[index])
        if width == 0:
            raise InputError(f"'{name}' has no uncertainty (held, or at its bound): give a range")
        low = max(value - 2 * width, float(model.lower[index]))
        limits = low, min(value + 2 * width, float(model.upper[index]))
    if not limits[0] < limits[1]:
        raise InputError(f"the range of '{name}' must rise, not {limits[0]:g} to {limits[1]:g}")
    return np.linspace(*limits, points)


def _print(found: ScanResult) -> None:
    rise, names = np.asarray(found.twice_delta_nll), found.names
    best = ", ".join(f"{name} = {float(found.best[name]):.5g}" for name in names)
    if rise.ndim == 1:
        rows = [[float(x), float(y)] for x, y in zip(found.values[0], rise, strict=True)]
        print_table([names[0], "2 delta nll"], rows, title=f"Best fit at {best}")
        return
    rows = []
    for level, text in ((2.2957, "68 %"), (5.9915, "95 %")):
        inside = rise <= level
        for axis, name in enumerate(names):
            seen = np.asarray(found.values[axis])[inside.any(axis=1 - axis)]
            ends = [float(seen.min()), float(seen.max())] if seen.size else [None, None]
            rows.append([text, name, *ends])
    title = f"Best fit at {best}; points inside the contours"
    caption = "all points: --json, or --plot FILE"
    print_table(["contour", "parameter", "from", "to"], rows, title=title, caption=caption)
