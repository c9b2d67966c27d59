"""What the commands on workspaces share: reading, patching, options, printing."""

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
_META = "difana.patches"


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    ctx.meta.setdefault(_META, {})[param.name] = value
    return value


def patch_options(function: Callable) -> Callable:
    """Add the options that change a workspace before it is used."""
    for decorate in (
        click.option(
            "--point",
            metavar="NAME",
            expose_value=False,
            callback=_remember,
            help="Point of the patch set: its name, or its values (700,400).",
        ),
        click.option(
            "--patchset",
            metavar="FILE",
            expose_value=False,
            callback=_remember,
            help="Patch set with a grid of signals.",
        ),
        click.option(
            "--patch",
            metavar="FILE",
            multiple=True,
            expose_value=False,
            callback=_remember,
            help="JSON patch to apply; may be repeated.",
        ),
    ):
        function = decorate(function)
    return function


def workspace_options(function: Callable) -> Callable:
    """Add what all commands on workspaces take."""
    function = patch_options(function)
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--measurement", metavar="NAME", help="Measurement; the first by default."),
        click.argument("workspace"),
    ):
        function = decorate(function)
    return function


def source_of(workspace: str) -> Any:
    """Return a path, or standard input for ``-``."""
    return sys.stdin.buffer if workspace == "-" else Path(workspace)


def point_of(text: str, labels: int) -> str | tuple[float, ...]:
    """Return the values of a point if numbers were given for all labels, its name otherwise."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return values if len(values) == labels else text


def load_workspace(workspace: str) -> Mapping[str, Any]:
    """Return a workspace with the patches of the command line applied, checked."""
    from difana.likelihood import read_patchset, read_workspace

    options = click.get_current_context().meta.get(_META, {})
    patchset, point = options.get("patchset"), options.get("point")
    if (patchset is None) != (point is None):
        raise ModelError("--patchset FILE and --point NAME go together")
    spec = read_workspace(source_of(workspace))
    if patchset is not None:
        points = read_patchset(Path(patchset))
        spec = points.apply(spec, point_of(point, len(points.labels)))
    patches = options.get("patch", ())
    return read_workspace(spec, patches=[Path(patch) for patch in patches]) if patches else spec


def open_workspace(workspace: str, measurement: str | None) -> Inference:
    """Return the inference on a pyhf workspace; ``-`` reads standard input."""
    from difana.cli import _setup

    _setup.start(fits=True)
    from difana.analysis import Inference
    from difana.likelihood import from_workspace

    model, data = from_workspace(load_workspace(workspace), measurement=measurement)
    return Inference(model, data)


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
