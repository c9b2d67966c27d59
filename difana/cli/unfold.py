"""``difana unfold``: from detector level to truth."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from difana.cli._output import finish, write_report
from difana.cli._workspace import print_table

if TYPE_CHECKING:
    from difana.unfold import UnfoldingRun


@click.command("unfold", short_help="Unfold data to truth level.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the results."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--no-report", is_flag=True, help="Draw no plots and write no report.")
def command(*, config: Path, out: Path, quiet: bool, no_report: bool) -> None:
    """Unfold what CONFIG describes; write dataset, histograms with covariance, and a report."""
    from difana.cli import _setup

    _setup.start()
    from difana.unfold import run_unfolding

    pages: list[Path | None] = []

    def report(own: UnfoldingRun) -> None:
        pages.append(write_report("unfolding_report", own))

    result = run_unfolding(config, out, progress=not quiet, report=None if no_report else report)
    page = pages[0] if pages else None
    if not quiet:
        _print(result)
        dataset = result.out / "unfolded.parquet" if result.events is not None else None
        for label, path in (
            ("report", page),
            ("dataset", dataset),
            ("all numbers", result.out / "result.json"),
        ):
            if path is not None:
                click.echo(f"{label + ':':<13}{path}")
    finish(str(result.summary["status"]))


def _print(result: UnfoldingRun) -> None:
    """Print the unfolded yields."""
    for name, h in result.histograms.items():
        if h.values.ndim == 1:
            edges = np.asarray(h.edges[0])
            labels = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)]
        else:
            labels = [str(index) for index in np.ndindex(h.values.shape)]
        columns = (h.values, h.errors, result.simulated[name])
        numbers = zip(*(np.ravel(np.asarray(c)) for c in columns), strict=True)
        rows = [[label, *map(float, row)] for label, row in zip(labels, numbers, strict=True)]
        print_table(["bin", "unfolded", "error", "simulated"], rows, title=name)
