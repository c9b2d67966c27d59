"""``difana apply``: what a result says of every event of a file."""

from __future__ import annotations

from pathlib import Path

import click

from difana.cli._method import code_option


@click.command("apply", short_help="Write scores, regions and bins next to the events of a file.")
@click.argument("result", type=click.Path(path_type=Path))
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    multiple=True,
    metavar="NAME",
    help="Column to keep, or a pattern with * and ?; all by default; may be repeated.",
)
@click.option("--friend", is_flag=True, help="Keep none: a friend tree of the same entries.")
@click.option(
    "--sample", default="", metavar="NAME", help="Sample of the file: its filter, weight and tree."
)
@click.option("--tree", metavar="NAME", help="Tree of the file, if not that of the analysis.")
@click.option("--everywhere", is_flag=True, help="Scores outside the trained region, too.")
@click.option(
    "--prefix", default="difana_", show_default=True, help="Of the names of the new columns."
)
@click.option(
    "--chunk",
    default=100_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Events held in memory at a time.",
)
@code_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    *,
    result: Path,
    source: str,
    target: Path,
    keep: tuple[str, ...],
    friend: bool,
    sample: str,
    tree: str | None,
    everywhere: bool,
    prefix: str,
    chunk: int,
    quiet: bool,
    allow_code: bool,
) -> None:
    """Write TARGET: the events of SOURCE with score, region and bin of the run in folder RESULT.

    Suffixes (.root, .h5, .parquet) choose the formats. TARGET appears when it is complete.
    """
    if friend and keep:
        raise click.UsageError("--friend keeps no column: leave out --keep, or --friend.")
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import apply

    found = apply(
        result,
        source,
        target,
        keep=() if friend else keep or "*",
        sample=sample,
        tree=tree,
        everywhere=everywhere,
        prefix=prefix,
        chunk_size=chunk,
        progress=not quiet,
        allow_code=allow_code,
    )
    if not quiet:
        click.echo(str(found))
