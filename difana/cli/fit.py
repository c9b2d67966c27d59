"""``difana fit``: the best fit of a workspace."""

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


@click.command("fit", short_help="Best fit to the data.")
@workspace_options
def command(*, workspace: str, measurement: str | None, as_json: bool) -> None:
    """Print the best-fit parameters of WORKSPACE ('-': standard input)."""
    inference = open_workspace(workspace, measurement)
    best = inference.best
    values, errors = np.asarray(best.params).tolist(), np.asarray(best.uncertainties).tolist()
    status = "ok" if best.ok else best.message
    if as_json:
        print_json(
            {
                "parameters": {
                    name: {"value": value, "uncertainty": error}
                    for name, value, error in zip(best.names, values, errors, strict=True)
                },
                "nll": float(best.nll),
                "covariance": np.asarray(best.covariance).tolist(),
                "status": status,
            }
        )
        return
    at_bound = [error == 0 and name == inference.model.structure.poi
                for name, error in zip(best.names, errors, strict=True)]  # fmt: skip
    rows = [
        [name, value, error, "at its bound" if bound else ""]
        for name, value, error, bound in zip(best.names, values, errors, at_bound, strict=True)
    ]
    title = f"Best fit, nll = {float(best.nll):.6g}"
    print_table(["parameter", "value", "uncertainty", ""], rows, title=title)
    warn_about(status)
