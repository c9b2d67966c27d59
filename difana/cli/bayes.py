"""``difana bayes``: the posterior of a workspace."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from difana.cli._workspace import (
    open_workspace,
    print_json,
    print_table,
    warn_about,
    workspace_options,
)


@click.command("bayes", short_help="Posterior: credible limit and intervals.")
@workspace_options
@click.option(
    "--draws", default=1000, show_default=True, type=click.IntRange(min=4), help="Of each chain."
)
@click.option(
    "--warmup", default=500, show_default=True, type=click.IntRange(min=1), help="Of each chain."
)
@click.option("--chains", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@click.option("--level", default=0.95, show_default=True, help="Credible level of the limit.")
def command(
    *,
    as_json: bool,
    draws: int,
    warmup: int,
    chains: int,
    seed: int,
    level: float,
    **source: Any,
) -> None:
    """Print the posterior of WORKSPACE ('-': standard input), flat in free parameters."""
    inference = open_workspace(**source)
    import jax

    from difana._errors import ModelError
    from difana.infer import posterior

    if inference.data is None:
        raise ModelError("a posterior needs data: the workspace has no observations")
    found = posterior(
        inference.model,
        inference.data,
        key=jax.random.key(seed),
        samples=draws,
        warmup=warmup,
        chains=chains,
    )
    limit = float(found.credible_upper_limit(level))
    hpd = [float(end) for end in found.credible_interval(kind="hpd")]
    summary = found.summary()
    columns = {
        name: np.asarray(getattr(summary, name)).tolist()
        for name in ("mean", "std", "median", "low", "high", "r_hat", "effective")
    }
    status = "ok" if found.ok else found.message
    poi = inference.model.structure.poi
    if as_json:
        print_json(
            {
                "level": level,
                "upper_limit": limit,
                "interval_hpd": hpd,
                "interval_level": summary.level,
                "divergences": int(found.divergences),
                "parameters": {
                    name: {key: values[i] for key, values in columns.items()}
                    for i, name in enumerate(summary.names)
                },
                "status": status,
            }
        )
        return
    rows = [list(row) for row in zip(summary.names, *columns.values(), strict=True)]
    print_table(
        ["parameter", "mean", "std", "median", "16 %", "84 %", "R-hat", "effective draws"],
        rows,
        title=f"{poi} < {limit:.5g} at {100 * level:g} % credibility; "
        f"shortest 68.27 % interval {hpd[0]:.5g} to {hpd[1]:.5g}",
    )
    warn_about(status)
