"""``difana prune``: a workspace without some of its parts."""

from __future__ import annotations

from pathlib import Path

import click

from difana.cli._workspace import load_workspace, output_option, patch_options, write_json


@click.command("prune", short_help="Leave out parts of a workspace.")
@click.argument("workspace")
@click.option("--channel", "-c", multiple=True, metavar="NAME", help="Channel to leave out.")
@click.option("--sample", "-s", multiple=True, metavar="NAME", help="Sample to leave out.")
@click.option("--modifier", "-m", multiple=True, metavar="NAME", help="Modifier to leave out.")
@click.option("--modifier-type", "-t", multiple=True, metavar="TYPE", help="Type to leave out.")
@click.option("--measurement", multiple=True, metavar="NAME", help="Measurement to leave out.")
@patch_options
@output_option
def command(
    *,
    workspace: str,
    channel: tuple[str, ...],
    sample: tuple[str, ...],
    modifier: tuple[str, ...],
    modifier_type: tuple[str, ...],
    measurement: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write WORKSPACE ('-': standard input) without the parts named; options may be repeated."""
    from difana.likelihood import prune

    spec = prune(
        load_workspace(workspace),
        channels=channel,
        samples=sample,
        modifiers=modifier,
        modifier_types=modifier_type,
        measurements=measurement,
    )
    write_json(spec, output)
