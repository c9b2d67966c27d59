"""``difana toys``: CLs of a workspace by toys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from difana.cli._workspace import (
    BAND,
    open_workspace,
    print_json,
    print_table,
    warn_about,
    workspace_options,
)

_STATISTICS = click.Choice(["qtilde", "qmu", "q0", "tmu", "tmu_tilde"])


@click.command("toys", short_help="CLs and p-values by toys.")
@workspace_options
@click.option("--mu", default=1.0, show_default=True, help="Tested value.")
@click.option(
    "--number",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Toys of each hypothesis.",
)
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@click.option("--statistic", default="qtilde", show_default=True, type=_STATISTICS)
@click.option(
    "--chunk",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
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
    inference = open_workspace(**source)
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
    status = "ok" if found.ok else found.message
    expected, errors = found.expected.tolist(), found.expected_error.tolist()
    if as_json:
        print_json(
            {
                "mu": mu,
                "statistic": statistic,
                "seed": seed,
                "toys": number,
                "failed": list(found.failed),
                "observed": found.cls,
                "observed_error": found.cls_error,
                "clsb": found.clsb,
                "clsb_error": found.clsb_error,
                "clb": found.clb,
                "clb_error": found.clb_error,
                "expected": expected,
                "expected_error": errors,
                "p_value": found.p_value,
                "p_value_error": found.p_value_error,
                "status": status,
            }
        )
        return
    poi = inference.model.structure.poi
    if statistic == "q0":
        rows: list[list[Any]] = [["p-value of no signal", found.p_value, found.p_value_error]]
        title = f"Discovery of {poi}: {number} toys"
    else:
        rows = [["CLs observed", found.cls, found.cls_error]]
        rows += [
            [f"CLs expected {n} sigma", value, error]
            for n, value, error in zip(BAND, expected, errors, strict=True)
        ]
        rows += [["CLs+b", found.clsb, found.clsb_error], ["CLb", found.clb, found.clb_error]]
        title = f"{poi} = {mu:g}: {number} toys of each hypothesis"
    print_table(["", "value", "error"], rows, title=title)
    warn_about(status)
