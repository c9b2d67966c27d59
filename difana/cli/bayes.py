"""``difana bayes``: the posterior of a workspace."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from difana.cli._options import (
    LEVEL,
    SEED,
    expected_option,
    model_options,
    workspace_options,
)
from difana.cli._output import finish
from difana.cli._print import print_json, print_table
from difana.cli._workspace import data_to_fit, need_poi, open_model, vary_poi


@click.command("bayes", short_help="Posterior: credible limit and intervals.")
@workspace_options
@model_options
@expected_option
@click.option(
    "--draws", default=1000, show_default=True, type=click.IntRange(4, 10**7), help="Of each chain."
)
@click.option(
    "--warmup", default=500, show_default=True, type=click.IntRange(1, 10**7), help="Of each chain."
)
@click.option("--chains", default=4, show_default=True, type=click.IntRange(1, 1000))
@click.option("--seed", default=0, show_default=True, type=SEED, help="Random seed.")
@click.option(
    "--level", default=0.95, show_default=True, type=LEVEL, help="Credible level of the limit."
)
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
    model, data = open_model(**source)
    poi = need_poi(model)
    data, model = data_to_fit(model, data), vary_poi(model)
    import jax

    from difana.infer import posterior

    found = posterior(
        model,
        data,
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
    status = found.verdict
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
        finish(status)
        return
    rows = [list(row) for row in zip(summary.names, *columns.values(), strict=True)]
    print_table(
        ["parameter", "mean", "std", "median", "16 %", "84 %", "R-hat", "effective draws"],
        rows,
        title=f"{poi} < {limit:.5g} at {100 * level:g} % credibility; "
        f"shortest 68.27 % interval {hpd[0]:.5g} to {hpd[1]:.5g}",
    )
    finish(status)
