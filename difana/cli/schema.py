"""``difana schema``: what may stand in a configuration file."""

from __future__ import annotations

import json

import click


@click.command("schema", short_help="JSON schema of a configuration, for editors.")
@click.argument("of", metavar="[run|unfold]", type=click.Choice(["run", "unfold"]), default="run")
def command(*, of: str) -> None:
    """Print the JSON schema of the file of a command: of an analysis (run), or an unfolding."""
    if of == "unfold":
        from difana.unfold import unfolding_schema as schema
    else:
        from difana.analysis import config_schema as schema
    click.echo(json.dumps(schema(), indent=2))
