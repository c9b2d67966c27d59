"""The recipe of ``difana run``, candidate by candidate: the demonstration, a toy, many nuisances.

    python benchmarks/recipe.py --write                 # everything; about half an hour on a core
    python benchmarks/recipe.py --parts demo --seeds 1

``demo``: the events of ``difana demo`` and its options; a seed is that of weights and batches.
``toy``: `difana.data.generate.uncertain_variable`, whose best variable is the most uncertain one,
at several sizes of the systematics; a seed is that of the events, too. ``nuisances``: time of a
training of the score against one of cross-entropy on the same events, with many nuisances.

Bins are chosen on training and validation events, and so is the candidate; limits are from hard
bins of the test split. "retained" is the share of the information that the chosen bins keep.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PARTS = ("demo", "toy", "nuisances")
TOY_EVENTS = (15_000, 10_000, 40_000)
COLUMNS = ("cross-entropy", "score", "descent", "chosen", "bins", "retained", "seconds")


def row(splits: Sequence[Any], *, network: Any, training: Any, seed: int, **fixed: Any) -> dict:
    """Return the median expected limits of one run of the recipe.

    Args:
        splits: Training, validation and test samples.
        network: Options of the network.
        training: Options of the training.
        seed: Of weights and batches.
        fixed: Fixed channels (``others``) and settings of ``parameters``.
    """
    import jax

    from difana.analysis import observe, optimise
    from difana.analysis.candidates import CROSS_ENTROPY, DESCENT, SCORE
    from difana.analysis.efficient_score import unbinned_uncertainty
    from difana.analysis.observables import Setting, View, expectation

    others, parameters = fixed.get("others", ()), fixed.get("parameters", ())
    train, validation, test = splits
    start = time.perf_counter()
    found = optimise(
        train,
        validation,
        network=network,
        training=training,
        key=jax.random.key(seed),
        progress_bar=False,
        **fixed,
    )
    seconds = time.perf_counter() - start
    if not found.ok:
        print(f"seed {seed}: {found.message}")
    assert found.score_net is not None
    on = Setting(
        poi="mu",
        bins={"SR": found.bins},
        channels=tuple(others),
        parameters=tuple(parameters),
        staterror=True,
        unbinned=unbinned_uncertainty(found.scores, [test], others),
    )
    by_name = {
        own.name: expectation(own.name, [View("SR", observe(own.net, test), own.edges)], on=on)
        for own in found.candidates
    }
    names = {"cross-entropy": CROSS_ENTROPY, "score": SCORE, "descent": DESCENT}
    chosen = by_name[found.chosen]
    return {
        **{short: by_name[name].median for short, name in names.items() if name in by_name},
        "chosen": chosen.median,
        "bins": found.bins,
        "retained": chosen.retained,
        "seconds": seconds,
        "validation": {own.name: round(own.metric, 4) for own in found.candidates},
        "name": next(short for short, name in names.items() if name == found.chosen),
    }


def table(rows: dict[str, dict], *, mean: bool = True) -> list[str]:
    """Return a table with a row a seed, and their mean."""

    def line(label: str, row: dict) -> str:
        cells = [
            f"{row[c]:.0f}" if c in ("bins", "seconds") else f"{row.get(c, float('nan')):.3f}"
            for c in COLUMNS
        ]
        return f"| {label} | {' | '.join(cells)} | {row.get('name', '')} |"

    lines = [f"| seed | {' | '.join(COLUMNS)} | which |", "|---|" + "---|" * (len(COLUMNS) + 1)]
    lines += [line(label, own) for label, own in rows.items()]
    if mean and len(rows) > 1:
        means = {c: statistics.mean(r.get(c, float("nan")) for r in rows.values()) for c in COLUMNS}
        lines.append(line("mean", means))
    return lines


def demo(seeds: Sequence[int], events: int) -> list[str]:
    """Return the section of the demonstration."""
    from difana.analysis import load, read_config
    from difana.cli.demo import CONFIG
    from difana.data.generate import write_resonance

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_resonance(folder / "ntuples", seed=1, events=events)
        (folder / "analysis.yaml").write_text(CONFIG.format(seed=1), encoding="utf-8")
        config = read_config(folder / "analysis.yaml")
        loaded = load(config)
    rows = {}
    for seed in seeds:
        rows[str(seed)] = row(
            (loaded.train, loaded.validation, loaded.test),
            network=config.network,
            training=config.training,
            seed=seed,
            others=loaded.channels,
            parameters=loaded.parameters,
        )
        print("demo", seed, rows[str(seed)], flush=True)
    return [f"Demonstration, {events} events a process.", "", *table(rows)]


def toy(
    seeds: Sequence[int], sizes: Sequence[float], bins: Any, share: float, members: int = 1
) -> list[str]:
    """Return the sections of the toy, one a size."""
    import jax

    from difana.analysis import NetworkOptions, TrainingOptions
    from difana.data.generate import uncertain_variable

    events = [int(share * number) for number in TOY_EVENTS]
    lines = []
    for size in sizes:
        rows = {}
        for seed in seeds:
            keys = jax.random.split(jax.random.key(seed), len(events))
            rows[str(seed)] = row(
                [
                    uncertain_variable(key=key, events=number, size=size)
                    for key, number in zip(keys, events, strict=True)
                ],
                network=NetworkOptions(hidden=(64, 64)),
                training=TrainingOptions(bins=bins, cross_entropy=0.0, batch=6000, members=members),
                seed=seed,
            )
            print("toy", size, seed, rows[str(seed)], flush=True)
        many = f"; {members} members" if members > 1 else ""
        title = (
            f"Toy, systematics of size {size:g}, bins: {bins}; events a process: {events}{many}."
        )
        lines += ([""] if lines else []) + [title, "", *table(rows)]
    return lines


def with_nuisances(samples: Sequence[Any], number: int, key: Any) -> list[Any]:
    """Return the toy with so many nuisances in weights instead, each a smooth function of x."""
    import jax
    import jax.numpy as jnp

    from difana.data import Sample, WeightVariation

    found = []
    for sample in samples:
        x, weights = sample.nominal.features, sample.nominal.weights
        waves = jax.random.normal(key, (x.shape[1] + 1, number), x.dtype)
        bend = 0.05 * jnp.sin(x @ waves[:-1] + waves[-1:]).astype(weights.dtype)
        moved = tuple(
            WeightVariation(
                up=weights * (1 + bend[:, i]), down=weights * (1 - bend[:, i]), name=f"n{i}"
            )
            for i in range(number)
        )
        own = () if sample.normfactors else moved
        found.append(Sample(sample.nominal, own, name=sample.name, normfactors=sample.normfactors))
    return found


def nuisances(numbers: Sequence[int], steps: int) -> list[str]:
    """Return the section of the times, compilation included."""
    import jax

    from difana.analysis import NetworkOptions, TrainingOptions, fit_efficient_score
    from difana.analysis.pretrain import pretrain, pretraining
    from difana.data.generate import uncertain_variable

    options = TrainingOptions(pretrain_steps=steps)
    network = NetworkOptions(hidden=(64, 64))
    keys = jax.random.split(jax.random.key(0), 2)
    lines = [
        f"Seconds of {steps} steps, compilation included, {TOY_EVENTS[0]} events a process.",
        "",
        "| nuisances | cross-entropy | score | ratio |",
        "|---|---|---|---|",
    ]
    for number in numbers:
        train, validation = (
            with_nuisances(uncertain_variable(key=own, events=events), number, keys[0])
            for own, events in zip(keys, TOY_EVENTS, strict=False)
        )
        shared = {"key": jax.random.key(1), "network": network, "progress_bar": False}
        start = time.perf_counter()
        pretrain(train, validation, training=options, **shared)
        middle = time.perf_counter()
        fit_efficient_score(train, validation, training=pretraining(options), **shared)
        end = time.perf_counter()
        plain, score = middle - start, end - middle
        lines.append(f"| {number} | {plain:.0f} | {score:.0f} | {score / plain:.2f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--events", type=int, default=40_000, help="of the demonstration")
    parser.add_argument("--toy-seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.0, 1.0, 3.0])
    parser.add_argument("--bins", type=lambda x: x if x == "auto" else int(x), default="auto")
    parser.add_argument("--members", type=int, default=1, help="networks, for the toy")
    parser.add_argument("--share", type=float, default=1.0, help="of the events of the toy")
    parser.add_argument("--numbers", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--steps", type=int, default=1500, help="of the trainings with nuisances")
    parser.add_argument("--write", action="store_true", help="write results/recipe*.md")
    options = parser.parse_args()
    import difana

    difana.enable_x64()
    sections = {
        "demo": lambda: demo(options.seeds, options.events),
        "toy": lambda: toy(
            options.toy_seeds, options.sizes, options.bins, options.share, options.members
        ),
        "nuisances": lambda: nuisances(options.numbers, options.steps),
    }
    for part in options.parts:
        lines = [f"    python benchmarks/recipe.py --parts {part}", "", *sections[part]()]
        text = "\n".join(lines) + "\n"
        print(text)
        if options.write:
            (RESULTS / f"recipe_{part}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
