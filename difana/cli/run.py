"""``difana run``: the whole analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from difana.cli._output import finish, write_report
from difana.cli._workspace import print_table

if TYPE_CHECKING:
    from difana.analysis import AnalysisResult


@click.command("run", short_help="Run an analysis.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the results."
)
@click.option("--no-resume", is_flag=True, help="Delete checkpoints in the folder and start over.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--no-report", is_flag=True, help="Draw no plots and write no report.")
def command(*, config: Path, out: Path, no_resume: bool, quiet: bool, no_report: bool) -> None:
    """Run the analysis of CONFIG: train, bin, evaluate on held-out events, report.

    Interrupted in any way, the same command continues from the last checkpoint. Exit code 3: the
    numbers cannot be trusted, the last line says why.
    """
    run_analysis(config, out, resume=not no_resume, quiet=quiet, report=not no_report)


def run_analysis(config: Path, out: Path, *, resume: bool, quiet: bool, report: bool) -> None:
    """Run an analysis, write its report and print the table of limits."""
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import run

    pages: list[Path | None] = []
    result = run(
        config,
        out,
        resume=resume,
        progress=not quiet,
        report=(lambda own: pages.append(write_report("analysis_report", own))) if report else None,
    )
    page = pages[0] if pages else None
    if not quiet:
        print_comparison(result)
        for label, path in (
            ("report", page),
            ("workspace", result.out / "workspace.json"),
            ("all numbers", result.out / "result.json"),
        ):
            if path is not None:
                click.echo(f"{label + ':':<13}{path}")
    finish(result.status)


def print_comparison(result: AnalysisResult) -> None:
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
