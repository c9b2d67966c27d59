"""``difana unfold``: from detector level to truth."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from difana.cli._method import method_options, run_method
from difana.cli._print import print_table

if TYPE_CHECKING:
    from difana.unfold import UnfoldingRun


@click.command("unfold", short_help="Unfold data to truth level.")
@method_options
def command(*, config: Path, out: Path, **options: bool) -> None:
    """Unfold what CONFIG describes; write dataset, histograms with covariance, and a report.

    Interrupted in any way, the same command continues after the last half iteration.
    """
    from difana.cli import _setup

    _setup.start()
    from difana.unfold import run_unfolding

    files = {"dataset": "unfolded.parquet", "all numbers": "result.json"}
    run_method(
        run_unfolding, config, out, page="unfolding_report", show=_print, files=files, **options
    )


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
