"""Cross-fitting against one split: spread of the expected limit over splits of a small sample.

    python benchmarks/cross_fitting.py --splits 20 --write

One small sample of the demonstration (``--events`` of each process) is split with other seeds: once
in training, validation and a test of 25 %, and once in folds. Cross-entropy in a few best bins, no
descent. ``bias``: the limit over that of the same networks and bins filled with ``--large`` events
of each process; both without statistical uncertainties, which would differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "cross_fitting.md"


def limits(config: Any, large: Any, steps: int) -> tuple[float, float]:
    """Return the limit of one split or of its folds, and that of the large sample."""
    import jax

    from difana.analysis import load, optimise
    from difana.analysis.evaluate import evaluate
    from difana.analysis.folds import evaluate_folds, train_folds

    loaded, seed = load(config), config.general.seed
    training = dataclasses.replace(
        config.training, start="cross-entropy", steps=0, pretrain_steps=steps,
        pretrain_batch=500, bins=3, minimum_events=20.0, search=60,
    )  # fmt: skip

    def fit(own: Any, fold: int, bins: Any) -> Any:
        options = dataclasses.replace(training, bins=bins[0])
        return optimise(
            own.train, own.validation, network=config.network, training=options,
            key=jax.random.fold_in(jax.random.key(seed), fold), others=own.channels,
            parameters=own.parameters, staterror=False, progress_bar=False,
        )  # fmt: skip

    if loaded.folds:
        found: Any = train_folds(loaded, [training.bins], fit)
        others = dataclasses.replace(
            loaded,
            folds=tuple(
                _tested_on(own, many) for own, many in zip(loaded.folds, large.folds, strict=True)
            ),
        )
        both = [evaluate_folds(config, own, found) for own in (loaded, others)]
    else:
        found = fit(loaded, 0, [training.bins])
        others = _tested_on(loaded, large)
        both = [evaluate(config, own, found) for own in (loaded, others)]
    return both[0].comparison[-1].median, both[1].comparison[-1].median


def _tested_on(own: Any, many: Any) -> Any:
    """Return inputs with the test events of others."""
    regions = (dataclasses.replace(own.regions[0], test=many.test),)
    return dataclasses.replace(own, regions=regions)


def main() -> None:
    """Run all splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--folds", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    import difana

    difana.enable_x64()
    import difana.analysis.evaluate as evaluation
    from difana.analysis import load, read_config
    from difana.cli.demo import CONFIG
    from difana.data.generate import write_resonance

    head = (
        f"{options.events} events of each process, {options.splits} splits, {options.steps} steps"
    )
    columns = "limit, mean | standard deviation over splits | over that of one split"
    lines = [
        f"{head}, cross-entropy in 4 best bins; `python benchmarks/cross_fitting.py`.",
        "",
        f"| | {columns} | limit over that of a large sample |",
        "|---|---|---|---|---|",
    ]
    evaluation._REPLICAS = 0  # no errors by bootstrap: the splits tell the spread
    reference = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_resonance(folder / "small" / "ntuples", seed=1, events=options.events)
        write_resonance(folder / "large" / "ntuples", seed=2, events=options.large)
        for folds in (0, *options.folds):
            start = time.perf_counter()
            text = CONFIG if not folds else CONFIG.replace(
                "Split: [0.5, 0.25, 0.25]", f"Split: {{{{Folds: {folds}}}}}"
            )  # fmt: skip
            text = text.replace("General:", "General:\n  StatErrors: false")

            def config_of(place: str, seed: int, text: str = text) -> Any:
                path = folder / place / "analysis.yaml"
                path.write_text(text.format(seed=seed), encoding="utf-8")
                return read_config(path)

            large = load(config_of("large", 0))
            rows = [
                limits(config_of("small", seed), large, options.steps)
                for seed in range(options.splits)
            ]
            own = [row[0] for row in rows]
            ratios = [row[0] / row[1] for row in rows]
            spread = statistics.stdev(own)
            reference = spread if reference is None else reference
            error = statistics.stdev(ratios) / len(ratios) ** 0.5
            what = f"{folds} folds" if folds else "one split, test of 25 %"
            lines.append(
                f"| {what} | {statistics.mean(own):.3f} | {spread:.3f} | {spread / reference:.2f} "
                f"| {statistics.mean(ratios):.3f} ± {error:.3f} |"
            )
            print(lines[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    if options.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
