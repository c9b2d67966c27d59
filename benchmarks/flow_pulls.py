"""Pulls of an unfolding by a flow, with bootstraps that train the flow again and without.

    python benchmarks/flow_pulls.py [--experiments N] [--write]

The minimal Gaussian toy: what one iteration finds with any number of events and a perfect flow is
known (``gaussian_recursion``). A pull is the distance from it over the error of the bootstraps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
from scipy.stats import norm

from difana.data.generate import gaussian_levels, gaussian_recursion
from difana.train import Training
from difana.unfold import fit_flow_unfolding, unfolding_problem

RESULT = Path(__file__).parent / "results" / "flow_pulls.md"
EDGES = np.linspace(-1.8, 1.8, 7)
TEXT = """# Pulls of an unfolding by a flow

`{command}`

The minimal Gaussian toy, {events} simulated and on average {events} measured events, {experiments}
pseudo-experiments, {bins} bins, {bootstraps} bootstraps, two layers of 32, one iteration; distance
from the closed form over the error of the bootstraps.

| bootstraps of | rms of the pulls | within one error |
|---|---|---|
{table}

A Gaussian has 1 and 68 %; the error of an rms of so many pulls is about {error:.2f} (an error from
{bootstraps} bootstraps alone widens it to {student:.2f}).
"""


def main() -> None:
    """Measure, print, and write with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--bootstraps", type=int, default=16)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    mean, sd = gaussian_recursion("minimal", iterations=1)[0]
    expected = options.events * np.diff(norm.cdf(EDGES, mean, sd))
    training = Training(epochs=25, batch_size=200, learning_rate=5e-3, average=0.99)
    pulls: dict[str, list] = {"data": [], "data, simulation and training": []}
    for number in range(options.experiments):
        key, key_yield, key_fit = jax.random.split(jax.random.fold_in(jax.random.key(0), number), 3)
        room = options.events + 5 * round(options.events**0.5)
        inputs = gaussian_levels("minimal", key=key, events=room).inputs()
        for name in ("gen", "reco", "pass_gen", "pass_reco"):
            inputs[name] = inputs[name][: options.events]
        measured = int(jax.random.poisson(key_yield, options.events))
        problem = unfolding_problem(**inputs, data_weights=np.arange(room) < measured, names=("z",))
        for (name, found), retrain in zip(pulls.items(), (False, True), strict=True):
            result = fit_flow_unfolding(
                problem, key=key_fit, samples=5, layers=2, hidden=(32,), training=training,
                bootstraps=options.bootstraps, retrain=retrain,
            )  # fmt: skip
            h = result.unfolded().histogram("z", EDGES)
            found.append((np.asarray(h.values) - expected) / np.asarray(h.errors))
            print(number, name, np.round(found[-1], 2), flush=True)
    lines = [
        f"| {name} | {np.sqrt(np.mean(np.square(rows))):.2f} |"
        f" {100 * np.mean(np.abs(rows) < 1):.0f} % |"
        for name, rows in pulls.items()
    ]
    number = options.experiments * (len(EDGES) - 1)
    text = TEXT.format(
        command=" ".join(["python benchmarks/flow_pulls.py", *sys.argv[1:]]), events=options.events,
        experiments=options.experiments, bins=len(EDGES) - 1, bootstraps=options.bootstraps,
        table="\n".join(lines), error=1 / np.sqrt(2 * number),
        student=np.sqrt((options.bootstraps - 1) / (options.bootstraps - 3)),
    )  # fmt: skip
    print(text)
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
