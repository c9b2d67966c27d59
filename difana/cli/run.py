"""``difana run``: the whole analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from difana.cli._method import method_options, run_method
from difana.cli._print import print_table

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult


@click.command("run", short_help="Run an analysis.")
@method_options
def command(*, config: Path, out: Path, **options: bool) -> None:
    """Run the analysis of CONFIG: train, bin, evaluate on held-out events, report.

    Interrupted in any way, the same command continues from the last checkpoint. Exit code 3: the
    numbers cannot be trusted, the last line says why.
    """
    run_analysis(config, out, **options)


def run_analysis(config: Path, out: Path, **options: bool) -> None:
    """Run an analysis, write its report and print the table of limits."""
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import run

    files = {"workspace": "workspace.json", "all numbers": "result.json"}
    run_method(run, config, out, page="analysis_report", show=_print, files=files, **options)


def _print(result: AnalysisResult) -> None:
    """Print the expected limits of all observables; the gain is that of the last one."""
    best = result.trained
    rows = []
    for entry in result.comparison:
        low, high = (entry.limits[1], entry.limits[3]) if entry.limits else (None, None)
        own = entry is best or not entry.limits
        gain = "" if own else f"{100 * (1 - best.median / entry.median):+.1f} %"
        z = entry.significance
        rows.append([entry.name, max(len(entry.edges) - 1, 0), entry.median, low, high, z, gain])
    poi = result.summary["poi"]
    print_table(
        ["observable", "bins", f"{poi} <", "-1 sigma", "+1 sigma", "Z", "gain of difana"],
        rows,
        title="Expected 95 % CL limits, hard bins, test split",
        highlight=len(rows) - 1,
    )
    for entry in result.comparison:
        if entry.status != "ok" and entry is not best:  # that one is said at the end
            click.echo(f"Warning: {entry.name}: {entry.status}", err=True)
    for note in result.summary["notes"]:
        click.echo(f"Note: {note}", err=True)
