"""``difana cls``: CLs of a workspace."""

from __future__ import annotations

import click

from difana.cli._workspace import (
    BAND,
    open_workspace,
    print_json,
    print_table,
    warn_about,
    workspace_options,
)


@click.command("cls", short_help="CLs of one signal strength.")
@workspace_options
@click.option("--mu", default=1.0, show_default=True, help="Tested value.")
def command(*, workspace: str, measurement: str | None, as_json: bool, mu: float) -> None:
    """Print observed and expected CLs of WORKSPACE ('-': standard input)."""
    inference = open_workspace(workspace, measurement)
    found = inference.cls(mu)
    if as_json:
        print_json(
            {
                "mu": mu,
                "observed": found.observed,
                "expected": found.expected,
                "status": found.status,
            }
        )
        return
    poi = inference.model.structure.poi
    rows = [["observed", found.observed]]
    rows += [[f"expected {n} sigma", x] for n, x in zip(BAND, found.expected, strict=True)]
    print_table(["", "CLs"], rows, title=f"CLs of {poi} = {mu:g}")
    warn_about(found.status)
