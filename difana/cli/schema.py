"""``difana schema``: what may stand in an analysis file."""

from __future__ import annotations

import json

import click


@click.command("schema", short_help="JSON schema of analysis.yaml, for editors.")
def command() -> None:
    """Print the JSON schema of an analysis file."""
    from difana.analysis import config_schema

    click.echo(json.dumps(config_schema(), indent=2))
