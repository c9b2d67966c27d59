"""``difana limit``: upper limits of a workspace."""

from __future__ import annotations

from typing import Any

import click

from difana.cli._options import (
    LEVEL,
    model_options,
    statistic_option,
    which_options,
    workspace_options,
)
from difana.cli._output import finish
from difana.cli._print import print_json, print_table
from difana.cli._results import band_rows, chosen, note_validity
from difana.cli._workspace import open_inference


@click.command("limit", short_help="Upper limits.")
@workspace_options
@model_options
@which_options
@statistic_option("qtilde", "q", "qmu")
@click.option("--level", default=0.95, show_default=True, type=LEVEL, help="Confidence level.")
def command(
    *, workspace: str, measurement: str | None, as_json: bool, level: float, statistic: Any
) -> None:
    """Print observed and expected CLs upper limits of WORKSPACE ('-': standard input)."""
    inference = open_inference(workspace, measurement)
    found = inference.limits(level=level, statistic=statistic)
    if as_json:
        values = chosen(found.observed, found.expected)
        print_json({"level": level, **values, "status": found.verdict})
    else:
        poi = inference.model.structure.poi
        rows = band_rows(found.observed, found.expected)
        print_table(["limit", f"{poi} <"], rows, title=f"{100 * level:g} % CL upper limits")
    limit = found.expected[2] if found.observed is None else found.observed
    tested = {"mu": limit, "statistic": statistic}
    note_validity(inference, workspace, measurement, f"--mu {limit:.4g}", **tested)
    finish(found.verdict)
