"""``difana convert``: files from one format to another."""

from __future__ import annotations

from pathlib import Path

import click

from difana._errors import ModelError
from difana.cli._documents import source_of
from difana.cli._print import write_json


def _is_workspace(source: str) -> bool:
    return source == "-" or source.lower().endswith((".xml", ".json", ".json.gz"))


@click.command("convert", short_help="Convert events, or workspaces (XML, pyhf, HS3).")
@click.argument("source")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--tree", metavar="NAME", help="Tree of a ROOT file; all by default.")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["pyhf", "hs3"]),
    help="Format of a workspace to write; by default pyhf, and hs3 for a pyhf workspace.",
)
@click.option("--measurement", metavar="NAME", help="Measurement or analysis of a workspace.")
@click.option("--folder", metavar="DIR", help="Folder that paths in XML files are relative to.")
@click.option(
    "--shapesys",
    default="relative",
    show_default=True,
    type=click.Choice(["relative", "absolute"]),
    help="Meaning of the values of a shapesys in HS3: relative in ROOT, absolute in pyhs3.",
)
def command(
    *,
    source: str,
    target: Path | None,
    tree: str | None,
    kind: str | None,
    measurement: str | None,
    folder: str | None,
    shapesys: str,
) -> None:
    """Convert SOURCE to TARGET.

    Events: the suffixes (.root, .h5, .parquet) choose the formats. Workspaces: HistFactory XML,
    pyhf JSON or HS3 JSON ('-': standard input) become pyhf JSON or HS3 JSON, printed without
    TARGET.
    """
    from difana.cli import _setup

    _setup.start()
    if not _is_workspace(source):
        from difana.data import convert

        if target is None:
            raise click.UsageError("Missing argument 'TARGET'.")
        click.echo(str(convert(source, target, tree=tree)))
        return
    from difana.likelihood import from_hs3, from_workspace, read_xml, to_hs3, to_workspace
    from difana.likelihood.formats._json import read_json

    is_hs3 = False
    if source.lower().endswith(".xml"):
        spec = read_xml(source, folder=folder)
    else:
        spec = read_json(source_of(source))
        is_hs3 = "distributions" in spec or "metadata" in spec
    wanted = kind or ("pyhf" if is_hs3 or source.lower().endswith(".xml") else "hs3")
    if is_hs3:
        model, data = from_hs3(spec, analysis=measurement, shapesys=shapesys)
        if wanted == "hs3":
            raise ModelError("the file is HS3 already")
        write_json(to_workspace(model, data, measurement=measurement or "measurement"), target)
    elif wanted == "pyhf":
        if not source.lower().endswith(".xml"):
            raise ModelError("the file is a pyhf workspace already")
        write_json(spec, target)
    else:
        model, data = from_workspace(spec, measurement=measurement)
        name = measurement or spec["measurements"][0]["name"]
        write_json(to_hs3(model, data, name=name, shapesys=shapesys), target)
