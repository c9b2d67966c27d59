"""``difana combine``: one workspace of several."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from difana._errors import ModelError
from difana.cli._print import output_option, write_json
from difana.cli._workspace import load_workspace


@click.command("combine", short_help="Combine workspaces.")
@click.argument("workspaces", nargs=-1, required=True)
@click.option(
    "--join",
    default="none",
    show_default=True,
    type=click.Choice(["none", "outer", "left outer", "right outer"]),
    help="What may stand in both: nothing, what is equal, or all (that side wins).",
)
@click.option("--merge-channels", is_flag=True, help="Merge the samples of channels of one name.")
@output_option
def command(
    *, workspaces: tuple[str, ...], join: str, merge_channels: bool, output: Path | None
) -> None:
    """Combine WORKSPACES ('-': standard input); modifiers of equal name share a parameter."""
    from difana.likelihood import combine

    if len(workspaces) < 2:
        raise ModelError("give two workspaces or more")
    if workspaces.count("-") > 1:
        raise ModelError("standard input can be read once only")
    specs = [load_workspace(workspace) for workspace in workspaces]
    joined = functools.partial(combine, join=join, merge_channels=merge_channels)
    write_json(functools.reduce(joined, specs), output)
