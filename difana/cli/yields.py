"""``difana yields``: tables of yields before and after the fit."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from difana._errors import InputError
from difana.cli._options import expected_option, model_options, option_of, workspace_options
from difana.cli._output import finish
from difana.cli._print import print_json
from difana.cli._workspace import best_fit, open_model

if TYPE_CHECKING:
    from difana.infer import YieldsResult
    from difana.likelihood import Model


@click.command("yields", short_help="Yields before and after the fit, with uncertainties.")
@workspace_options
@model_options
@expected_option
@click.option("--prefit", is_flag=True, help="Before the fit alone: no fit is done.")
@click.option("--postfit", is_flag=True, help="After the fit alone.")
@click.option("--channel", "-c", multiple=True, metavar="NAME", help="Only this channel; repeat.")
@click.option("--sums", is_flag=True, help="Sums of the channels alone, not each bin.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def command(
    *,
    as_json: bool,
    as_csv: bool,
    prefit: bool,
    postfit: bool,
    channel: tuple[str, ...],
    sums: bool,
    **source: Any,
) -> None:
    """Print the expected yields of WORKSPACE ('-': standard input), by sample and bin.

    Uncertainties are propagated with the full covariance of the fit; before the fit all constrained
    parameters vary independently by their widths.
    """
    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other")
    from difana.infer import yields

    model, data, best = None, None, None
    if prefit and not postfit:
        model, data = open_model(**source)
    else:
        model, data, best = best_fit(**source)
    channels = [layout.name for layout in model.structure.channels]
    for name in channel:
        model.slice_of(name)  # raises, with the nearest name
    kept = [name for name in channels if not channel or name in channel]
    found = [] if postfit and not prefit else [yields(model)]
    found += [] if best is None else [yields(model, fit=best)]
    status = next((result.verdict for result in found if not result.ok), "ok")
    if option_of("expected"):
        data = None
    if as_json:
        print_json(_numbers(model, found, kept, data, status))
    elif as_csv:
        _print_csv(model, found, kept, data)
    else:
        texts = []
        for result in found:
            tables = result.as_text(data, per_bin=not sums).split("\n\n")
            texts += [t for name, t in zip(channels, tables, strict=True) if name in kept]
        click.echo("\n\n".join(texts))
    finish(status)


def _numbers(
    model: Model, found: list[YieldsResult], kept: list[str], data: Any, status: str
) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        result.label: {name: result.channel(name) for name in kept} for result in found
    }
    if data is not None:
        seen = np.asarray(data)
        numbers["data"] = {name: seen[model.slice_of(name)].tolist() for name in kept}
    return {**numbers, "status": status}


def _print_csv(model: Model, found: list[YieldsResult], kept: list[str], data: Any) -> None:
    """Print one row for each sample, total and datum of each bin; bins count from 1."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["fit", "channel", "bin", "sample", "yield", "error"])
    for result in found:
        for name in kept:
            numbers = result.channel(name)
            for sample, row in [*numbers["samples"].items(), ("total", numbers)]:
                pairs = zip(row["yields"], row["errors"], strict=True)
                for i, (value, error) in enumerate(pairs):
                    table.writerow([result.label, name, i + 1, sample, value, error])
    for name in kept if data is not None else ():
        for i, count in enumerate(np.asarray(data)[model.slice_of(name)].tolist()):
            table.writerow(["", name, i + 1, "data", count, ""])
