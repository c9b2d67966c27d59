"""``difana run``: the whole analysis."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from difana.cli._method import code_option, method_options, run_method
from difana.cli._print import print_table

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult, GridResult


@click.command("run", short_help="Run an analysis.")
@functools.partial(method_options, needs_out=False)
@code_option
@click.option(
    "--check",
    is_flag=True,
    help="Read the first entries of every file, say all that is wrong, and end.",
)
def command(*, config: Path, out: Path | None, check: bool, **options: bool) -> None:
    """Run the analysis of CONFIG: train, bin, evaluate on held-out events, report.

    Interrupted in any way, the same command continues from the last checkpoint. Exit code 3: the
    numbers cannot be trusted, the last line says why.
    """
    if check:
        check_analysis(config, quiet=options["quiet"], allow_code=options["allow_code"])
    elif out is None:
        raise click.UsageError("Missing option '--out'.")
    else:
        run_analysis(config, out, **options)


def check_analysis(config: Path, *, quiet: bool, allow_code: bool) -> None:
    """Say what is wrong with an analysis and its files, or that nothing is."""
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import check

    found = check(config, progress=not quiet, allow_code=allow_code)
    if quiet:
        return
    rows = [[name, len(own), sum(own.values())] for name, own in found.entries.items()]
    print_table(["sample", "files", "entries"], rows, title="Files, with those of systematics")
    for text in found.notes:
        click.echo(f"Note: {text}", err=True)
    click.echo(str(found))


def run_analysis(
    config: Path,
    out: Path,
    trained: Path | None = None,
    /,
    *,
    allow_code: bool = False,
    **options: bool,
) -> None:
    """Run an analysis, write its report and print the table of limits.

    Args:
        config: The configuration.
        out: Folder of the results.
        trained: Folder of a finished run whose networks are evaluated; without one they are
            trained.
        allow_code: Import code that they name.
        options: What is said and drawn.
    """
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import evaluate_from, run

    def evaluated(*args: Any, resume: bool, **others: Any) -> AnalysisResult:
        return evaluate_from(str(trained), *args, allow_code=allow_code, **others)

    files = {"workspace": "workspace.json", "all numbers": "result.json"}
    method = functools.partial(run, allow_code=allow_code) if trained is None else evaluated
    run_method(method, config, out, page="analysis_report", show=_print, files=files, **options)


def _print(result: AnalysisResult | GridResult) -> None:
    """Print the limits, observed first, then the expected ones of all observables."""
    from difana.analysis import GridResult
    from difana.analysis.grid_result import grid_table
    from difana.analysis.words import comparison_table, headline

    if isinstance(result, GridResult):
        columns, rows = grid_table(result.summary)
        print_table(columns, rows, title="95 % CL limits on the grid of signals")
        for note in result.summary["notes"]:
            click.echo(f"Note: {note}", err=True)
        return
    lines = headline(result.summary)
    width = max(len(name) for name, _, _ in lines)
    for name, value, said in lines:
        click.echo(f"{name.capitalize().ljust(width)}  {value}  ({said})")
    columns, rows = comparison_table(result.summary)
    own = [entry is result.trained for entry in result.comparison].index(True)
    events = "all events, in folds" if result.config.folds else "test split"
    title = f"Expected 95 % CL limits of all observables, hard bins, {events}"
    print_table(columns, rows, title=title, highlight=own)
    for entry in result.comparison:
        if entry.status != "ok" and entry is not result.trained:  # that one is said at the end
            click.echo(f"Warning: {entry.name}: {entry.status}", err=True)
    for note in result.summary["notes"]:
        click.echo(f"Note: {note}", err=True)
