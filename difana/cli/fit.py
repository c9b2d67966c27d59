"""``difana fit``: the best fit of a workspace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from difana.cli._options import expected_option, model_options, workspace_options
from difana.cli._output import finish, note, reporting, save_figure
from difana.cli._print import print_json, print_table
from difana.cli._workspace import best_fit
from difana.cli.pulls import any_single

if TYPE_CHECKING:
    from jaxtyping import Array

    from difana.infer import FitResult, GoodnessResult, IntervalResult
    from difana.likelihood import Model


@click.command("fit", short_help="Best fit to the data.")
@workspace_options
@model_options
@expected_option
@click.option(
    "--minos",
    multiple=True,
    metavar="NAME",
    help="Profile-likelihood interval of a parameter; several times, or 'all'.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write pictures of pulls, correlations and yields to this folder.",
)
def command(*, as_json: bool, minos: tuple[str, ...], plot: Path | None, **source: Any) -> None:
    """Print the best-fit parameters of WORKSPACE ('-': standard input)."""
    model, data, best = best_fit(**source)
    from difana.infer import goodness_of_fit, profile_interval

    goodness = goodness_of_fit(model, data, fit=best)
    intervals = None
    if minos:
        names = _free(model) if minos == ("all",) else list(dict.fromkeys(minos))
        with reporting("intervals") as report:
            intervals = profile_interval(model, data, names, fit=best, report=report)
    status = best.verdict
    if intervals is not None and best.ok:
        status = intervals.verdict
    if as_json:
        print_json(_numbers(model, best, goodness, intervals, status))
    else:
        _print(model, best, goodness, intervals)
    if plot is not None:
        _draw(model, data, best, plot)
    note_bounds(best)
    finish(status)


def note_bounds(best: FitResult) -> None:
    """Say which free parameters lie at a bound, where uncertainties are those of the open side."""
    names = best.at_bound
    if names:
        few = ", ".join(f"'{name}'" for name in names[:5])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        note(f"at a bound, where the uncertainty is one-sided: {few}{more} (see --minos, --bounds)")


def _free(model: Model) -> list[str]:
    return [name for name, held in zip(model.parameters, model.fixed, strict=True) if not held]


def _pulls(model: Model, best: FitResult) -> dict[str, float]:
    from difana.infer import pulls

    found = pulls(model, best)
    pairs = zip(found.names, np.asarray(found.pulls).tolist(), np.asarray(found.free), strict=True)
    return {name: pull for name, pull, free in pairs if free}


def _numbers(
    model: Model,
    best: FitResult,
    goodness: GoodnessResult,
    intervals: IntervalResult | None,
    status: str,
) -> dict[str, Any]:
    pulls = _pulls(model, best)
    values, errors = np.asarray(best.params).tolist(), np.asarray(best.uncertainties).tolist()
    parameters: dict[str, dict[str, Any]] = {
        name: {"value": value, "uncertainty": error}
        for name, value, error in zip(best.names, values, errors, strict=True)
    }
    for name, pull in pulls.items():
        parameters[name]["pull"] = pull
    for i, name in enumerate(intervals.names if intervals is not None else ()):
        assert intervals is not None
        parameters[name]["interval"] = [float(intervals.lower[i]), float(intervals.upper[i])]
    return {
        "parameters": parameters,
        "nll": float(best.nll),
        "goodness_of_fit": {
            "chi2": float(goodness.chi2),
            "dof": goodness.dof,
            "p_value": float(goodness.p_value),
        },
        "covariance": np.asarray(best.covariance).tolist(),
        "status": status,
    }


def _print(
    model: Model, best: FitResult, goodness: GoodnessResult, intervals: IntervalResult | None
) -> None:
    numbers = _numbers(model, best, goodness, intervals, "")["parameters"]
    marks = np.where([name in best.at_bound for name in best.names], "at its bound", "")
    marks = np.where(np.asarray(model.fixed), "held", marks).tolist()
    columns = ["parameter", "value", "uncertainty", "pull"]
    if intervals is not None:
        columns += ["lower", "upper"]
    rows = []
    for name, entry in numbers.items():
        row = [name, entry["value"], entry["uncertainty"], entry.get("pull")]
        if intervals is not None:
            row += entry.get("interval", [None, None])
        rows.append([*row, marks[best.names.index(name)]])
    chi2 = f"chi2 = {float(goodness.chi2):.5g} for {goodness.dof} degrees of freedom"
    if goodness.dof > 0:
        chi2 += f", p = {float(goodness.p_value):.3g}"
    title = f"Best fit, nll = {float(best.nll):.6g}"
    print_table([*columns, ""], rows, title=title, caption=chi2)


def _draw(model: Model, data: Array, best: FitResult, folder: Path) -> None:
    from difana import plot
    from difana._errors import InputError
    from difana.infer import pulls, yields

    folder.mkdir(parents=True, exist_ok=True)
    found = pulls(model, best)
    for name, draw in (
        ("pulls.png", lambda: plot.pulls(found, bins=not any_single(found))),
        ("correlation.png", lambda: plot.correlation(best)),
    ):
        try:
            save_figure(draw(), folder / name)
        except InputError as error:
            click.echo(f"no {name}: {error}", err=True)
    before, after = yields(model), yields(model, fit=best)
    for channel in model.structure.channels:
        figure = plot.yields(before, after, channel=channel.name, data=np.asarray(data))
        save_figure(figure, folder / f"yields_{re.sub(r'[^A-Za-z0-9_.-]', '_', channel.name)}.png")
