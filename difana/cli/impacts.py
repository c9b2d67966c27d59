"""``difana impacts``: what moves the parameter of interest of a workspace."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from difana._errors import InputError
from difana.cli._options import (
    expected_option,
    model_options,
    option_of,
    workspace_options,
)
from difana.cli._output import finish, reporting, save_figure
from difana.cli._print import print_json, print_table
from difana.cli._workspace import best_fit

if TYPE_CHECKING:
    from difana.infer import HelpResult, ImpactsResult, UncertaintySplit


@click.command("impacts", short_help="Impacts of the nuisance parameters.")
@workspace_options
@model_options
@expected_option
@click.option("--parameter", metavar="NAME", help="On which; the one of interest by default.")
@click.option(
    "--kind",
    type=click.Choice(["nuisance", "global", "covariance"]),
    default="nuisance",
    show_default=True,
    help="Nuisances held; auxiliary data shifted, which split the uncertainty; the covariance.",
)
@click.option(
    "--method",
    type=click.Choice(["refit", "gradient"]),
    default="refit",
    show_default=True,
    help="Fits (four a nuisance, two a datum), or their linear form.",
)
@click.option(
    "--group",
    multiple=True,
    metavar="NAME=GLOB,GLOB",
    help="Also the impact of a group of nuisances, e.g. jets='jes_*,jer'; several times.",
)
@click.option("--most", default=30, show_default=True, type=click.IntRange(min=1), help="Rows.")
@click.option(
    "--improve", is_flag=True, help="Also print what would lower the expected limit most."
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Write a picture.")
def command(
    *,
    as_json: bool,
    parameter: str | None,
    kind: str,
    method: str,
    group: tuple[str, ...],
    most: int,
    improve: bool,
    plot: Path | None,
    **source: Any,
) -> None:
    """Rank the nuisance parameters of WORKSPACE ('-': standard input) by their impact."""
    groups = dict(_group(text) for text in group)
    model, data, best = best_fit(**source, tested=parameter is None or improve)
    from difana.infer import ImpactsResult, impacts, uncertainty_split, what_would_help

    with reporting("impacts") as report:
        ask = impacts if kind == "nuisance" else partial(uncertainty_split, kind=cast(Any, kind))
        found = ask(
            model,
            data,
            parameter=parameter,
            groups=groups,
            method=cast(Any, method),
            fit=best,
            report=report,
        )
    blind = None if option_of("expected") else data
    helps = what_would_help(model, blind) if improve else None
    if plot is not None:
        from difana import plot as pictures

        one = pictures.impacts if kind == "nuisance" else pictures.uncertainty_split
        save_figure(one(cast(Any, found), most=most), plot)
    if as_json:
        numbers = found.as_dict()
        if helps is not None:
            numbers["improve"] = helps.as_dict()
        print_json(numbers)
    else:
        if isinstance(found, ImpactsResult):
            _print(found, most)
        else:
            _print_split(found, most)
        if helps is not None:
            _print_helps(helps, most)
    finish(found.verdict)


def _group(text: str) -> tuple[str, list[str]]:
    name, equals, patterns = text.partition("=")
    chosen = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    if not (name.strip() and equals and chosen):
        raise InputError(f"--group '{text}' must read NAME=GLOB or NAME=GLOB,GLOB")
    return name.strip(), chosen


def _print(found: ImpactsResult, most: int) -> None:
    table = found.as_dict()
    rows = [
        [name, *(entry[key] for key in ("params", "uncertainties", "prefit_up", "prefit_down",
                                        "postfit_up", "postfit_down", "auxiliary"))]
        for name, entry in list(table["impacts"].items())[:most]
    ]  # fmt: skip
    columns = ["nuisance", "value", "uncertainty", "pre-fit up", "pre-fit down", "post-fit up",
               "post-fit down", "auxiliary"]  # fmt: skip
    value, error = table["value"], table["uncertainty"]
    title = f"Impacts on {found.poi} = {value:.5g} ± {error:.4g}"
    parts = f"statistical {table['statistical']:.4g}, systematic {table['systematic']:.4g}"
    hidden = len(table["impacts"]) - len(rows)
    caption = parts if hidden == 0 else f"{parts}; {hidden} more with --most or --json"
    print_table(columns, rows, title=title, caption=caption)
    if table["groups"]:
        lines = [[name, pair["held"], pair["auxiliary"]] for name, pair in table["groups"].items()]
        print_table(["group", "held", "auxiliary data"], lines, title="Groups")


def _print_split(found: UncertaintySplit, most: int) -> None:
    table = found.as_dict()
    sources = list(table["impacts"].items())
    rows = [[name, pair["up"], pair["down"]] for name, pair in sources[:most]]
    title = f"Uncertainty of {found.poi} = {table['value']:.5g} ± {table['uncertainty']:.4g}"
    hidden = len(sources) - len(rows)
    caption = f"{hidden} more with --most or --json" if hidden else ""
    parts = [[name, table[name]] for name in ("statistical", "systematic")]
    print_table(["part", "size"], [*parts, *map(list, table["groups"].items())], title=title)
    columns = ["auxiliary datum" if found.kind == "global" else "nuisance", "up", "down"]
    print_table(columns, rows, title="Sources", caption=caption)


def _print_helps(helps: HelpResult, most: int) -> None:
    lines = [[name, limit, f"{100 * gain:.2f} %"] for name, limit, gain in helps.rows()[:most]]
    title = f"What would lower the expected limit of {float(helps.limit):.5g}"
    print_table(["change", "limit", "better by"], lines, title=title)
