"""``difana digest``: the digest of a workspace."""

from __future__ import annotations

import click

from difana.cli._options import patch_options
from difana.cli._workspace import load_workspace


@click.command("digest", short_help="Digest of a workspace.")
@click.argument("workspace")
@click.option("--algorithm", default="sha256", show_default=True, help="Algorithm of hashlib.")
@click.option("--sort", "sorted_first", is_flag=True, help="Put everything in order before.")
@patch_options
def command(*, workspace: str, algorithm: str, sorted_first: bool) -> None:
    """Print the digest of WORKSPACE ('-': standard input): that of pyhf and of patch sets."""
    from difana.likelihood import digest, sort_workspace

    spec = load_workspace(workspace)
    click.echo(digest(sort_workspace(spec) if sorted_first else spec, algorithm=algorithm))
