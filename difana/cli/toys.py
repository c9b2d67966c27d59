"""``difana toys``: CLs of a workspace by toys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from difana._errors import InputError
from difana.cli._options import (
    SEED,
    Number,
    model_options,
    option_of,
    statistic_option,
    which_options,
    workspace_options,
)
from difana.cli._output import finish
from difana.cli._print import print_json, print_table
from difana.cli._workspace import BAND, open_inference

if TYPE_CHECKING:
    from difana.infer import ToysResult

_MANY = click.IntRange(1, 10**8)


@click.command("toys", short_help="CLs and p-values by toys.")
@workspace_options
@model_options
@which_options
@click.option("--mu", default=1.0, show_default=True, type=Number(), help="Tested value.")
@click.option(
    "--number",
    default=10_000,
    show_default=True,
    type=_MANY,
    help="Toys of each hypothesis.",
)
@click.option("--seed", default=0, show_default=True, type=SEED, help="Random seed.")
@statistic_option("qtilde", "q", "qmu", "q0", "tmu", "tmu_tilde")
@click.option(
    "--chunk",
    default=1000,
    show_default=True,
    type=_MANY,
    help="Toys fitted together.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the toys in this .npz file; continue from it if it exists.",
)
def command(
    *,
    as_json: bool,
    mu: float,
    number: int,
    seed: int,
    statistic: str,
    chunk: int,
    resume: Path | None,
    **source: Any,
) -> None:
    """Print CLs of WORKSPACE ('-': standard input) from toys, observed and expected."""
    if mu < 0 and not statistic.startswith("tmu"):
        raise InputError(f"--mu {mu:g} must be at least 0 for the statistic {statistic}")
    inference = open_inference(**source)
    import jax

    from difana.infer import toys

    found = toys(
        inference.model,
        inference.data,
        mu=mu,
        number=number,
        key=jax.random.key(seed),
        statistic=statistic,
        chunk=chunk,
        file=resume,
        progress=True,
    )
    status = found.verdict
    numbers = _numbers(found)
    if as_json:
        about = {"mu": mu, "statistic": statistic, "seed": seed, "toys": number}
        print_json({**about, "failed": list(found.failed), **numbers, "status": status})
    else:
        poi = inference.model.structure.poi
        title = f"{poi} = {mu:g}: {number} toys of each hypothesis"
        if statistic == "q0":
            title = f"Discovery of {poi}: {number} toys"
        print_table(["", "value", "error"], _rows(numbers, statistic), title=title)
    finish(status)


def _numbers(found: ToysResult) -> dict[str, Any]:
    """Return the values and errors that --observed or --expected leave, for JSON."""
    numbers: dict[str, Any] = {}
    if not option_of("expected"):
        numbers["observed"], numbers["observed_error"] = found.cls, found.cls_error
        for name in ("clsb", "clb", "p_value"):
            numbers[name] = getattr(found, name)
            numbers[f"{name}_error"] = getattr(found, f"{name}_error")
    if not option_of("observed"):
        numbers["expected"] = found.expected.tolist()
        numbers["expected_error"] = found.expected_error.tolist()
        numbers["expected_p_value"] = found.expected_p_value.tolist()
    return numbers


def _rows(numbers: dict[str, Any], statistic: str) -> list[list[Any]]:
    def row(text: str, name: str) -> list[Any]:
        return [text, numbers[name], numbers[f"{name}_error"]]

    seen = not math.isnan(numbers.get("clb", math.nan))
    rows: list[list[Any]] = []
    if statistic == "q0":
        rows = [row("p-value of no signal", "p_value")] if seen else []
        values = numbers.get("expected_p_value", ())
        return rows + [[f"expected {n} sigma", p, None] for n, p in zip(BAND, values, strict=False)]
    if seen:
        rows = [row("CLs observed", "observed")]
    if "expected" in numbers:
        rows += [
            [f"CLs expected {n} sigma", value, error]
            for n, value, error in zip(
                BAND, numbers["expected"], numbers["expected_error"], strict=True
            )
        ]
    return rows + [row("CLs+b", "clsb"), row("CLb", "clb")] * seen
