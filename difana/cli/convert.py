"""``difana convert``: files from one format to another."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert", short_help="Convert between ROOT, HDF5 and parquet.")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--tree", metavar="NAME", help="Tree of a ROOT file; all by default.")
def command(*, source: str, target: Path, tree: str | None) -> None:
    """Convert SOURCE to TARGET; the suffixes (.root, .h5, .parquet) choose the formats."""
    from difana.cli import _setup

    _setup.start()
    from difana.data import convert

    click.echo(str(convert(source, target, tree=tree)))
