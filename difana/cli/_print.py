"""Tables and JSON on standard output, or in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from difana._errors import ModelError
from difana._files import jsonable


def write_json(value: Any, output: Path | None) -> None:
    """Write JSON to a file, or print it."""
    text = json.dumps(value, indent=4, allow_nan=False)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot write '{output}': {error.strerror}") from error
    click.echo(str(output))


def output_option(function: Callable) -> Callable:
    """Add the option that names the file to write."""
    return click.option(
        "--output", "-o", type=click.Path(path_type=Path), help="File to write; printed without."
    )(function)


def print_json(value: Any) -> None:
    """Print JSON; numbers that are not finite become null."""
    click.echo(json.dumps(jsonable(value), indent=2, allow_nan=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    title: str = "",
    caption: str = "",
    highlight: int | None = None,
) -> None:
    """Print a table; numbers get five digits and stand at the right, texts that begin so, too."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text: names of parts of a workspace may look like markup
    table = Table(
        title=Text(title) if title else None,
        caption=Text(caption) if caption else None,
        title_justify="left",
    )
    for i, name in enumerate(columns):
        numeric = i > 0 and any(_numeric(row[i]) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left")
    for i, row in enumerate(rows):
        style = "bold green" if i == highlight else None
        table.add_row(*(Text(_cell(value)) for value in row), style=style)
    console = Console()
    # a pipe has no width: do not cut the numbers there
    wide = console if console.is_terminal else Console(width=200)
    wide.print(table)


def _numeric(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip("+-")[:1].isdigit()
    return isinstance(value, int | float)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
