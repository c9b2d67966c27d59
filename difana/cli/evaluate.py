"""``difana evaluate``: the networks of a finished run on another analysis."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from difana.cli._method import code_option, method_options
from difana.cli.run import run_analysis


@click.command("evaluate", short_help="Apply the networks of a finished run to another analysis.")
@functools.partial(method_options, resumes=False)
@code_option
@click.option(
    "--from",
    "trained",
    type=click.Path(path_type=Path),
    required=True,
    metavar="RESULT",
    help="Folder of the finished run.",
)
def command(*, config: Path, out: Path, trained: Path, **options: bool) -> None:
    """Evaluate networks and bin edges of a finished run as CONFIG says; nothing is trained.

    Data, blinding, systematics, regions, selections, luminosity and names may be others; features,
    particles, network, parameter of interest and the split of the events are those of the run.
    """
    run_analysis(config, out, trained, **options)
