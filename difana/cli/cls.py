"""``difana cls``: CLs of a workspace."""

from __future__ import annotations

from typing import Any

import click

from difana.cli._options import (
    Number,
    model_options,
    statistic_option,
    which_options,
    workspace_options,
)
from difana.cli._output import finish
from difana.cli._print import print_json, print_table
from difana.cli._results import band_rows, chosen, note_validity
from difana.cli._workspace import open_inference


@click.command("cls", short_help="CLs of one signal strength.")
@workspace_options
@model_options
@which_options
@statistic_option("qtilde", "q", "qmu")
@click.option(
    "--mu", default=1.0, show_default=True, type=Number(at_least=0.0), help="Tested value."
)
def command(
    *, workspace: str, measurement: str | None, as_json: bool, mu: float, statistic: Any
) -> None:
    """Print observed and expected CLs of WORKSPACE ('-': standard input)."""
    inference = open_inference(workspace, measurement)
    from scipy.stats import norm

    found = inference.cls(mu, statistic=statistic)
    if as_json:
        values = chosen(found.observed, found.expected)
        print_json({"mu": mu, **values, "status": found.verdict})
    else:
        poi = inference.model.structure.poi
        rows = band_rows(found.observed, found.expected)
        print_table(["", "CLs"], rows, title=f"CLs of {poi} = {mu:g}")
    value = found.expected[2] if found.observed is None else found.observed
    tested = {"mu": mu, "statistic": statistic, "sigmas": abs(float(norm.isf(value)))}
    note_validity(inference, workspace, measurement, f"--mu {mu:g}", **tested)
    finish(found.verdict)
