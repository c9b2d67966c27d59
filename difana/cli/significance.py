"""``difana significance``: discovery significance of a workspace."""

from __future__ import annotations

import click
import numpy as np

from difana.cli._options import model_options, statistic_option, which_options, workspace_options
from difana.cli._output import finish
from difana.cli._print import print_json, print_table
from difana.cli._results import chosen, note_validity
from difana.cli._workspace import open_inference


@click.command("significance", short_help="Discovery significance.")
@workspace_options
@model_options
@which_options
@statistic_option("q0")
def command(*, workspace: str, measurement: str | None, as_json: bool, statistic: str) -> None:
    """Print observed and expected discovery significance of WORKSPACE ('-': standard input)."""
    inference = open_inference(workspace, measurement)
    from scipy.stats import norm

    found = inference.significance()
    values = chosen(found.observed, found.expected)
    p_values = {
        name: None if z is None else float(norm.sf(np.asarray(z, float)))
        for name, z in values.items()
    }
    if as_json:
        print_json(
            {**values, **{f"{k}_p": p for k, p in p_values.items()}, "status": found.verdict}
        )
    else:
        rows = [[name, z, p_values[name]] for name, z in values.items() if z is not None]
        print_table(["", "sigma", "p-value"], rows, title="Discovery significance")
    far = found.expected if found.observed is None else found.observed
    note_validity(inference, workspace, measurement, "", statistic=statistic, sigmas=float(far))
    finish(found.verdict)
