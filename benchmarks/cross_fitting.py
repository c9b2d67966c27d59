"""Cross-fitting against one split: spread of the expected limit over splits of a small sample.

    python benchmarks/cross_fitting.py --splits 20 --write

One small sample of the demonstration (``--events`` of each process) is split with other seeds: once
in training, validation and a test of 25 %, and once in folds. Cross-entropy in a few best bins, no
descent. ``bias``: other small samples, one split each; the mean limit (and the background in the
purest bin) over that of the same networks and bins filled with ``--large`` events of each process.
Both without statistical uncertainties, which would differ: noise in the templates then looks like
information, and a limit from few events lies too low however they are used; yields do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "cross_fitting.md"


def numbers(config: Any, large: Any, steps: int) -> tuple[float, float, float, float]:
    """Return limit and background in the purest bin, each of the sample and of the large one."""
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
    limit = [own.comparison[-1].median for own in both]
    pure = [_purest(own.channels[0]) for own in both]
    return limit[0], limit[1], pure[0], pure[1]


def _purest(channel: Any) -> float:
    """Return the background in the last bin."""
    return sum(float(t.values[-1]) for t in channel.templates if "mu" not in t.normfactors)


def _ratios(rows: Any) -> tuple[list[float], list[float]]:
    """Return the two ratios to the large sample, of the rows and of bootstrap samples of them."""
    import numpy as np

    rng = np.random.default_rng(0)
    draws = [rows, *(rows[rng.integers(0, len(rows), len(rows))] for _ in range(500))]
    yields = [own[:, 2].sum() / own[:, 3].sum() for own in draws]
    limits = [np.median(own[:, 0]) / np.median(own[:, 1]) for own in draws]
    return yields, limits


def _with_error(values: Sequence[float]) -> str:
    return f"{values[0]:.2f} ± {statistics.stdev(values[1:]):.2f}"


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
    import numpy as np

    import difana

    difana.enable_x64()
    import difana.analysis.evaluate as evaluation
    from difana.analysis import load, read_config
    from difana.cli.demo import CONFIG
    from difana.data.generate import write_resonance

    head = (
        f"{options.events} events of each process, {options.splits} splits, {options.steps} steps"
    )
    columns = "median limit | interquartile range over splits | over that of one split"
    columns += " | standard deviation | over that of one split"
    lines = [
        f"{head}, cross-entropy in 3 best bins; `python benchmarks/cross_fitting.py`.",
        f"Bias: {options.splits} other samples against {options.large} events of each process.",
        "",
        f"| | {columns} | background in the purest bin, ratio of sums | limit, ratio of medians |",
        "|---|---|---|---|---|---|---|---|",
    ]
    evaluation._REPLICAS = 0  # no errors by bootstrap: the splits tell the spread
    reference = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_resonance(folder / "large" / "ntuples", seed=2, events=options.large)
        samples = range(100, 100 + options.splits)
        for seed in (1, *samples):
            write_resonance(folder / f"{seed}" / "ntuples", seed=seed, events=options.events)
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
            same = np.array(
                [numbers(config_of("1", s), large, options.steps) for s in range(options.splits)]
            )
            other = np.array([numbers(config_of(f"{s}", s), large, options.steps) for s in samples])
            own = same[:, 0]
            spread = np.array([np.subtract(*np.percentile(own, [75, 25])), np.std(own, ddof=1)])
            reference = spread if reference is None else reference
            part = spread / reference
            what = f"{folds} folds" if folds else "one split, test of 25 %"
            yields, limits = (_with_error(rows) for rows in _ratios(other))
            lines.append(
                f"| {what} | {np.median(own):.3f} | {spread[0]:.3f} | {part[0]:.2f} "
                f"| {spread[1]:.3f} | {part[1]:.2f} | {yields} | {limits} |"
            )
            print(lines[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    if options.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
