"""What the commands on workspaces share: reading, options, printing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from difana._errors import ModelError

if TYPE_CHECKING:
    from difana.analysis import Inference

BAND = ("-2", "-1", "0", "+1", "+2")


def workspace_options(function: Callable) -> Callable:
    """Add what all commands on workspaces take."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--measurement", metavar="NAME", help="Measurement; the first by default."),
        click.argument("workspace"),
    ):
        function = decorate(function)
    return function


def open_workspace(workspace: str, measurement: str | None) -> Inference:
    """Return the inference on a pyhf workspace; ``-`` reads standard input."""
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import Inference
    from difana.likelihood import from_workspace

    source: Any = Path(workspace)
    if workspace == "-":
        try:
            source = json.load(sys.stdin)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"standard input is not JSON: {error}") from error
        if not isinstance(source, Mapping):
            raise ModelError("standard input is no workspace: expected a JSON object")
    model, data = from_workspace(source, measurement=measurement)
    return Inference(model, data)


def print_json(value: Any) -> None:
    """Print JSON; numbers that are not finite become null."""

    def clean(entry: Any) -> Any:
        if isinstance(entry, Mapping):
            return {key: clean(child) for key, child in entry.items()}
        if isinstance(entry, list | tuple):
            return [clean(child) for child in entry]
        return None if isinstance(entry, float) and not math.isfinite(entry) else entry

    click.echo(json.dumps(clean(value), indent=2, allow_nan=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    title: str = "",
    caption: str = "",
    highlight: int | None = None,
) -> None:
    """Print a table; numbers get five digits and stand at the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, caption=caption or None, title_justify="left")
    for i, name in enumerate(columns):
        numeric = any(isinstance(row[i], int | float) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left")
    for i, row in enumerate(rows):
        style = "bold green" if i == highlight else None
        table.add_row(*(Text(_cell(value)) for value in row), style=style)
    console = Console()
    # a pipe has no width: do not cut the numbers there
    wide = console if console.is_terminal else Console(width=200)
    wide.print(table)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def warn_about(status: str) -> None:
    """Say on standard error why numbers cannot be trusted."""
    if status != "ok":
        click.echo(f"Warning: {status}", err=True)
