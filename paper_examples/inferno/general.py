"""INFERNO by the general method: `fit_efficient_score` and `best_bins`, no code of its own.

python paper_examples/inferno/general.py [--benchmark B2] [--seeds 1 2] [--out general.json]

The samples with their variations go in as they are; training, validation and test events are those
of different keys, sigma(s) is that of `problem.uncertainty`, in hard bins of the test events.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from problem import BENCHMARKS, Binned, generate, select, templates, uncertainty

import difana
from difana.analysis import (
    NetworkOptions,
    TrainingOptions,
    best_bins,
    fit_efficient_score,
    log_objective,
    observe,
)
from difana.train import Training

HERE = Path(__file__).parent


def sigma(benchmark: str, seed: int, *, steps: int, bins: int, events: tuple[int, ...]) -> float:
    """Return the uncertainty of the signal; a seed is that of events, weights and batches."""
    keys = jax.random.split(jax.random.key(seed), 4)
    train, validation, test = (
        generate(key, events=number) for key, number in zip(keys, events, strict=False)
    )
    train, validation = select(train, benchmark), select(validation, benchmark)
    score = fit_efficient_score(
        train,
        validation,
        key=keys[3],
        network=NetworkOptions(hidden=(64, 64)),
        training=Training(
            steps=steps, batch_size=4000, learning_rate=2e-3, final_rate=0.0, patience=None
        ),
        strength=1.0,  # a measurement of mu = 1
        parameters=BENCHMARKS[benchmark].parameters,  # r and lambda are free
        progress_bar=False,
    ).observable
    objective = log_objective(
        TrainingOptions(objective="poi_uncertainty", bins=bins),
        parameters=BENCHMARKS[benchmark].parameters,
    )
    seen = [observe(score, train), observe(score, validation)]
    edges = best_bins(seen, objective, bins=bins).edges
    return uncertainty(templates([Binned(score, jnp.asarray(edges))], test)[0], benchmark)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", choices=tuple(BENCHMARKS)[1:], default="B2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--bins", type=int, default=20)
    parser.add_argument("--events", type=int, nargs=3, default=[100_000, 50_000, 200_000])
    parser.add_argument("--out", type=Path, help="JSON file of the numbers")
    options = parser.parse_args()
    difana.enable_x64()
    found = []
    for seed in options.seeds:
        start = time.perf_counter()
        value = sigma(
            options.benchmark,
            seed,
            steps=options.steps,
            bins=options.bins,
            events=tuple(options.events),
        )
        found.append(round(value, 4))
        print(
            options.benchmark, seed, found[-1], f"{time.perf_counter() - start:.0f} s", flush=True
        )
    if options.out is not None:
        record = {"benchmark": options.benchmark, "seeds": options.seeds, "sigma": found}
        record |= {name: getattr(options, name) for name in ("steps", "bins", "events")}
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
