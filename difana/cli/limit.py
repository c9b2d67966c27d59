"""``difana limit``: upper limits of a workspace."""

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


@click.command("limit", short_help="Upper limits of a pyhf workspace.")
@workspace_options
@click.option("--level", default=0.95, show_default=True, help="Confidence level.")
def command(*, workspace: str, measurement: str | None, as_json: bool, level: float) -> None:
    """Print observed and expected CLs upper limits of WORKSPACE ('-': standard input)."""
    inference = open_workspace(workspace, measurement)
    found = inference.limits(level=level)
    if as_json:
        print_json(
            {
                "level": level,
                "observed": found.observed,
                "expected": found.expected,
                "status": found.status,
            }
        )
        return
    poi = inference.model.structure.poi
    rows = [["observed", found.observed]]
    rows += [[f"expected {n} sigma", x] for n, x in zip(BAND, found.expected, strict=True)]
    print_table(["limit", f"{poi} <"], rows, title=f"{100 * level:g} % CL upper limits")
    warn_about(found.status)
