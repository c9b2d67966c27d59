"""The efficient score on the demonstration, against cross-entropy; bins searched for both.

    python benchmarks/efficient_score.py --seeds 1 2 3 --members 1 --write

The events are those of ``difana demo``; a seed is that of weights and batches. Bins are searched on
training and validation events (as many for both), limits are from hard bins of the test split.
``bound``: 1.96 times the uncertainty of mu that the scores promise without any binning.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "efficient_score.md"
BINS = 10
COLUMNS = ("cross-entropy", "efficient score", "bound", "seconds")


def row(loaded, seed: int, members: int, budget: int) -> dict[str, float]:
    """Return the median expected limits of one seed."""
    import jax
    import numpy as np

    from difana.analysis import (
        NetworkOptions,
        TrainingOptions,
        best_bins,
        fit_efficient_score,
        log_objective,
        observe,
        train_cross_entropy,
    )
    from difana.analysis.observables import Setting, expectation
    from difana.train import Training

    on = Setting("SR", "mu", BINS, loaded.channels, loaded.parameters, True)  # noqa: FBT003
    score = log_objective(
        TrainingOptions(bins=BINS), others=loaded.channels, parameters=loaded.parameters
    )
    network = NetworkOptions(hidden=(64, 64), activation="silu")

    def limit(name: str, net) -> float:
        seen = [observe(net, part) for part in (loaded.train, loaded.validation, loaded.test)]
        edges = best_bins(seen[:2], score, bins=BINS, budget=budget).edges
        return expectation(name, seen[2], edges, on=on).median

    start = time.perf_counter()
    found = fit_efficient_score(
        loaded.train,
        loaded.validation,
        key=jax.random.key(seed),
        network=network,
        members=members,
        progress_bar=False,
    ).observable
    seconds = time.perf_counter() - start
    plain = train_cross_entropy(
        loaded.train,
        key=jax.random.key(seed),
        network=network,
        training=Training(steps=1500, batch_size=4000, final_rate=0.0, patience=None),
    )
    return {
        "cross-entropy": limit("cross-entropy", plain.net),
        "efficient score": limit("efficient score", found),
        "bound": 1.96 * float(np.asarray(found.uncertainties)[0]),
        "seconds": seconds,
    }


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--budget", type=int, default=1000, help="binnings tried at most")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    import difana

    difana.enable_x64()
    from difana.analysis import load, read_config
    from difana.cli.demo import CONFIG
    from difana.data.generate import write_resonance

    lines = [
        f"Demonstration, {BINS} searched bins, {options.members} network(s) a seed.",
        "",
        f"| seed | {' | '.join(COLUMNS)} |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_resonance(folder / "ntuples", seed=1, events=40_000)
        (folder / "analysis.yaml").write_text(CONFIG.format(seed=1), encoding="utf-8")
        loaded = load(read_config(folder / "analysis.yaml"))
        rows = []
        for seed in options.seeds:
            rows.append(row(loaded, seed, options.members, options.budget))
            lines.append(f"| {seed} | " + " | ".join(f"{rows[-1][c]:.3f}" for c in COLUMNS) + " |")
            print(lines[-1], flush=True)
    means = [statistics.mean(r[c] for r in rows) for c in COLUMNS]
    lines.append("| mean | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    print("\n".join(lines))
    if options.write:
        command = (
            f"    {Path(__file__).parent.name}/{Path(__file__).name}, members {options.members}"
        )
        RESULT.write_text(f"{command}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
