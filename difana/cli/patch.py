"""``difana patch``: apply JSON patches, or look into a patch set."""

from __future__ import annotations

from pathlib import Path

import click

from difana.cli._options import patch_options
from difana.cli._print import output_option, print_json, print_table, write_json
from difana.cli._workspace import load_workspace


@click.command("patch", short_help="Apply patches, or list those of a patch set.")
@click.argument("workspace", required=False)
@patch_options
@click.option("--list", "listed", metavar="FILE", help="Patch set whose points to list.")
@click.option("--json", "as_json", is_flag=True, help="List as JSON.")
@output_option
def command(
    *, workspace: str | None, listed: str | None, as_json: bool, output: Path | None
) -> None:
    """Write WORKSPACE ('-': standard input) with --patch, or --patchset and --point, applied."""
    if listed is not None:
        from difana.likelihood import read_patchset

        points = read_patchset(Path(listed))
        if as_json:
            print_json(dict(zip(points.names, map(list, points.values), strict=True)))
            return
        rows = [[name, *values] for name, values in zip(points.names, points.values, strict=True)]
        print_table(["point", *points.labels], rows, title=points.description)
        return
    if workspace is None:
        raise click.UsageError("Missing argument 'WORKSPACE'.")
    write_json(load_workspace(workspace), output)
