"""``difana pulls``: how the fit moved and narrowed the constrained parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from difana.cli._options import expected_option, model_options, workspace_options
from difana.cli._output import finish, save_figure
from difana.cli._print import print_json, print_table
from difana.cli._workspace import best_fit

if TYPE_CHECKING:
    from difana.infer import PullsResult


def any_single(found: PullsResult) -> bool:
    """Return True if a parameter that is free stands for more than one bin."""
    free = np.asarray(found.free).tolist()
    return any("[" not in name and moves for name, moves in zip(found.names, free, strict=True))


@click.command("pulls", short_help="Pulls and constraints of the nuisance parameters.")
@workspace_options
@model_options
@expected_option
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Write a picture.")
def command(*, as_json: bool, plot: Path | None, **source: Any) -> None:
    """Print (best fit - centre) / width of the constrained parameters of WORKSPACE.

    A pull of 1 is a shift by the width of the constraint; a width below 1 says that the data know
    more than the constraint. WORKSPACE '-' is standard input.
    """
    model, _, best = best_fit(**source)
    from difana.infer import pulls

    found = pulls(model, best)
    columns = {
        name: np.asarray(getattr(found, name)).tolist()
        for name in ("pulls", "ratios", "centers", "widths", "free")
    }
    values = np.asarray(best.params)[model.structure.constrained].tolist()
    status = best.verdict
    if plot is not None:
        from difana import plot as pictures

        save_figure(pictures.pulls(found, bins=not any_single(found)), plot)
    if as_json:
        keys = {"pulls": "pull", "ratios": "width", "centers": "center", "widths": "prefit_width"}
        parameters = {
            name: {"value": values[i], **{key: columns[of][i] for of, key in keys.items()}}
            for i, name in enumerate(found.names)
        }
        print_json({"parameters": parameters, "status": status})
    else:
        rows = [
            [name, values[i], columns["pulls"][i], columns["ratios"][i],
             "" if columns["free"][i] else "held, or at its bound"]
            for i, name in enumerate(found.names)
        ]  # fmt: skip
        print_table(["parameter", "value", "pull", "width", ""], rows, title="Pulls")
    finish(status)
