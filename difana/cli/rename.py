"""``difana rename``: other names in a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from difana._errors import ModelError
from difana.cli._options import patch_options
from difana.cli._print import output_option, write_json
from difana.cli._workspace import load_workspace


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        old, found, new = text.partition("=")
        if not found or not old or not new:
            raise ModelError(f"'{text}': expected OLD=NEW")
        pairs[old] = new
    return pairs


@click.command("rename", short_help="Rename parts of a workspace.")
@click.argument("workspace")
@click.option("--channel", "-c", multiple=True, metavar="OLD=NEW", help="Channel to rename.")
@click.option("--sample", "-s", multiple=True, metavar="OLD=NEW", help="Sample to rename.")
@click.option("--modifier", "-m", multiple=True, metavar="OLD=NEW", help="Modifier to rename.")
@click.option("--measurement", multiple=True, metavar="OLD=NEW", help="Measurement to rename.")
@patch_options
@output_option
def command(
    *,
    workspace: str,
    channel: tuple[str, ...],
    sample: tuple[str, ...],
    modifier: tuple[str, ...],
    measurement: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write WORKSPACE ('-': standard input) with other names; options may be repeated."""
    from difana.likelihood import rename

    names = [_pairs(given) for given in (channel, sample, modifier, measurement)]
    spec = rename(
        load_workspace(workspace),
        channels=names[0],
        samples=names[1],
        modifiers=names[2],
        measurements=names[3],
    )
    write_json(spec, output)
