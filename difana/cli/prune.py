"""``difana prune``: a workspace without some of its parts."""

from __future__ import annotations

from pathlib import Path

import click

from difana._errors import ModelError
from difana.cli._options import Number, patch_options
from difana.cli._print import output_option, write_json
from difana.cli._workspace import load_workspace


@click.command("prune", short_help="Leave out parts of a workspace.")
@click.argument("workspace")
@click.option("--channel", "-c", multiple=True, metavar="NAME", help="Channel to leave out.")
@click.option("--sample", "-s", multiple=True, metavar="NAME", help="Sample to leave out.")
@click.option("--modifier", "-m", multiple=True, metavar="NAME", help="Modifier to leave out.")
@click.option("--modifier-type", "-t", multiple=True, metavar="TYPE", help="Type to leave out.")
@click.option("--measurement", multiple=True, metavar="NAME", help="Measurement to leave out.")
@click.option(
    "--bins",
    "-b",
    multiple=True,
    metavar="CHANNEL:N,N",
    help="Bins of a channel to leave out, counted from 1.",
)
@click.option("--below", type=Number(), help="Leave out bins whose samples sum to less than this.")
@click.option(
    "--shape",
    default=0.0,
    type=Number(at_least=0.0),
    help="Leave out shapes of systematics that change no bin of a sample by more (e.g. 0.005).",
)
@click.option(
    "--normalization",
    default=0.0,
    type=Number(at_least=0.0),
    help="Leave out changes of the yield of a sample that are smaller.",
)
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
    bins: tuple[str, ...],
    below: float | None,
    shape: float,
    normalization: float,
    output: Path | None,
) -> None:
    """Write WORKSPACE ('-': standard input) without the parts named; options may be repeated."""
    from difana.likelihood import prune, prune_bins, prune_small

    chosen: dict[str, list[int]] = {}
    for text in bins:
        name, numbers = _bins(text)
        chosen.setdefault(name, []).extend(numbers)
    spec = prune(
        load_workspace(workspace),
        channels=channel,
        samples=sample,
        modifiers=modifier,
        modifier_types=modifier_type,
        measurements=measurement,
    )
    if bins or below:
        spec = prune_bins(spec, bins=chosen, below=below)
    if shape or normalization:
        spec = prune_small(spec, shape=shape, normalization=normalization)
    write_json(spec, output)


def _bins(text: str) -> tuple[str, list[int]]:
    """Return channel and bins, counted from 0, of ``CHANNEL:N,N``."""
    channel, _, numbers = text.rpartition(":")
    parts = numbers.split(",")
    if not channel or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ModelError(f"--bins '{text}' must read CHANNEL:N,N with bins counted from 1")
    return channel, [int(part) - 1 for part in parts]
