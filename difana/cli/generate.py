"""``difana generate``: events of Pythia 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from difana.cli._options import SEED, Number


@click.command("generate", short_help="Generate jets or events with Pythia 8.")
@click.argument("process")
@click.option("--number", type=click.IntRange(1, 10**9), required=True, help="Number of rows.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="File to write (.parquet)."
)
@click.option("--seed", type=SEED, default=1, show_default=True, help="Seed of everything.")
@click.option(
    "--processes", type=click.IntRange(1, 4096), help="Number of processes; all cores by default."
)
@click.option("--energy", type=Number(at_least=100.0), default=13_000.0, show_default=True,
              help="Energy of the collision, GeV.")  # fmt: skip
@click.option("--radius", type=Number(above=0.0), help="Radius of the anti-kT jets.")
@click.option("--pt-min", type=Number(above=0.0), help="Smallest pT of a jet, GeV.")
@click.option("--pt-max", type=Number(above=0.0), help="Largest pT where jets are rows, GeV.")
@click.option("--particles", type=click.IntRange(1, 100_000), default=200, show_default=True,
              help="Constituents of a jet that are kept.")  # fmt: skip
@click.option("--no-shower-weights", is_flag=True, help="Leave out shower-scale weights: faster.")
@click.option("--set", "commands", multiple=True, metavar="'KEY = VALUE'",
              help="A further setting of Pythia; may be repeated.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    *,
    process: str,
    number: int,
    out: Path,
    processes: int | None,
    no_shower_weights: bool,
    commands: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Generate rows of a process and write them to a parquet file.

    PROCESS is one of: qcd, top, w, z, quark, gluon (a row is a jet), ttbar_hadronic,
    ttbar_semileptonic, ttbar_dilepton, zprime, zprime_dijets, wprime, dijets (a row is an event).

    Interrupted in any way, the same command continues.
    """
    from difana.cli import _setup

    _setup.start()
    from difana.data.generate.pythia import Generation, write_generated

    generation = Generation(
        process, shower_weights=not no_shower_weights, commands=commands, **options
    )
    try:
        path = write_generated(
            generation, out, number=number, processes=processes, progress=not quiet
        )
    except ModuleNotFoundError as error:
        raise click.ClickException(str(error)) from error
    if not quiet:
        click.echo(f"{number} rows of {process}: {path}")
