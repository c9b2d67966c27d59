"""``difana significance``: discovery significance of a workspace."""

from __future__ import annotations

import click
import numpy as np

from difana.cli._workspace import (
    open_workspace,
    print_json,
    print_table,
    warn_about,
    workspace_options,
)


@click.command("significance", short_help="Discovery significance.")
@workspace_options
def command(*, workspace: str, measurement: str | None, as_json: bool) -> None:
    """Print observed and expected discovery significance of WORKSPACE ('-': standard input)."""
    inference = open_workspace(workspace, measurement)
    from scipy.stats import norm

    found = inference.significance()
    values = {"observed": found.observed, "expected": found.expected}
    p_values = {name: float(norm.sf(np.asarray(z, float))) for name, z in values.items()}
    if as_json:
        print_json({**values, **{f"{k}_p": p for k, p in p_values.items()}, "status": found.status})
        return
    rows = [[name, z, p_values[name]] for name, z in values.items()]
    print_table(["", "sigma", "p-value"], rows, title="Discovery significance")
    warn_about(found.status)
