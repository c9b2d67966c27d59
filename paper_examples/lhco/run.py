"""Optimise the LHC Olympics analysis for the expected limit, against every cheaper way.

    python paper_examples/lhco/run.py --data PATH --out lhco-output

Systematics of 0, 1, 2 and 4 times the nominal size (jet mass scale 3 %, tau21 scale 5 %). Every
limit is from hard bins of the test split. What is done is kept in ``results.json``, method by
method; the same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from baselines import METHODS, binnings, classifier
from events import splits_of
from limit import train_limit
from prepare import DEFAULT, load
from report import check_with_pyhf, coverage_of, coverage_table, gain, picture, summary, table

SIZES = (0.0, 1.0, 2.0, 4.0)
COVERED = ("0-4", "3-4")  # seed and size: one kept its start, one did not
FIXED = ("cross-entropy", "parametrised")  # they do not depend on the systematics
FULL: dict[str, Any] = {
    "network": {"hidden": (64, 64, 64)},
    "training": {
        "bins": 10,
        "pretrain_steps": 1200,
        "search": 500,
        "minimum_events": 3.0,
    },
    "events": None,
}
REDUCED: dict[str, Any] = {
    "network": {"hidden": (16, 16)},
    "training": {
        "bins": 5,
        "pretrain_steps": 150,
        "search": 60,
        "steps": 8,
        "batch": 3000,
        "validate_every": 4,
        "minimum_events": 1.0,
    },
    "events": 12_000,
}


class Analysis:
    """The events of one seed and size, and how any observable of them is judged."""

    def __init__(self, rows: dict[str, np.ndarray], seed: int, size: float, setup: dict) -> None:
        """Split the events."""
        import jax

        from difana.analysis import NetworkOptions, TrainingOptions, log_objective
        from difana.analysis.observables import Setting
        from difana.likelihood import Parameter

        self.size = size
        self.key = jax.random.key(seed)
        self.network = NetworkOptions(**setup["network"])
        self.training = TrainingOptions(**setup["training"])
        self.splits = splits_of(rows, seed=seed, size=size, events=setup["events"])
        self.parameters = (Parameter("mu", bounds=((0.0, 10.0),)),)
        bins = self.training.bins
        self.on = Setting("mu", {"SR": bins}, (), self.parameters, staterror=True)
        self.score = log_objective(self.training, parameters=self.parameters)

    def train(self, name: str) -> Any:
        """Return the network of a method."""
        return classifier(
            name,
            *self.splits[:2],
            size=self.size,
            network=self.network,
            training=self.training,
            key=self.key,
        )

    def limits(self, name: str, net: Any) -> dict[str, float | None]:
        """Return the limits of a network in all binnings."""
        from difana.analysis.observables import View, expectation
        from difana.analysis.templates import observe

        seen = [observe(net, part) for part in self.splits]
        limits: dict[str, float | None] = {}
        for binning, edges in binnings(seen, self.score, on=self.on, training=self.training):
            known = None
            if len(edges):
                known = expectation(name, [View("SR", seen[2], edges)], on=self.on).median
            limits[f"{name}, {binning}"] = known
        return limits

    def judged(self, net: Any, edges: np.ndarray, part: int) -> float:
        """Return the expected limit of a split (1: validation, 2: test) in hard bins."""
        from difana.analysis.observables import View, expectation
        from difana.analysis.templates import observe

        view = View("SR", observe(net, self.splits[part]), edges)
        return expectation("difana", [view], on=self.on).median

    def workspace(self, net: Any, edges: np.ndarray) -> dict:
        """Return the test split as a pyhf workspace."""
        from difana.analysis.observables import View
        from difana.analysis.templates import merge_empty, observe
        from difana.likelihood import to_workspace

        seen = observe(net, self.splits[2])
        edges, _ = merge_empty(seen, np.asarray(edges, np.float32), poi="mu")
        model = self.on.model([self.on.channel(View("SR", seen, edges))])
        data = model.expected(model.init.at[model.poi_index].set(0.0))
        return to_workspace(model, data, measurement="lhco")


def analyse(
    rows: dict[str, np.ndarray],
    seed: int,
    sizes: tuple[float, ...],
    known: dict,
    setup: dict,
    methods: tuple[str, ...] = METHODS,
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield ``(size, result so far)`` of one seed after each method."""
    kept: dict[str, Any] = {}  # networks that all sizes share
    for size in sizes:
        found = known.get(f"{seed}-{size:g}", {"limits": {}, "seconds": {}})
        todo = [name for name in methods if f"{name}, best bins" not in found["limits"]]
        todo = [name for name in todo if size or name in FIXED]  # nothing to vary at 0
        last = "difana" not in found["limits"]
        if not (todo or last):
            continue
        one = Analysis(rows, seed, size, setup)
        for name in dict.fromkeys([*(["cross-entropy"] if last else []), *todo]):
            begin = time.process_time()
            net = kept[name] if name in kept else one.train(name)
            if name in FIXED:
                kept[name] = net
            limits = one.limits(name, net)
            seconds = round(time.process_time() - begin, 1)
            found["limits"].update(limits)
            found["seconds"][name] = seconds
            yield size, found
        if last:
            begin = time.process_time()
            net, edges, facts = train_limit(one, kept["cross-entropy"])
            found |= facts
            found["limits"]["difana"] = one.judged(net, edges, 2)
            found["workspace"] = one.workspace(net, edges)
            found["seconds"]["difana"] = round(time.process_time() - begin, 1)
            yield size, found


def main() -> None:
    """Run what is missing, then write table, picture and coverage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT / "lhco")
    parser.add_argument("--out", type=Path, default=Path("lhco-output"))
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5), help="which")
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--toys", type=int, default=2000)
    parser.add_argument("--reduced", action="store_true", help="small networks, few events")
    parser.add_argument("--report", action="store_true", help="only table, picture and coverage")
    parser.add_argument("--write", action="store_true", help="write expected.json and gain.png")
    options = parser.parse_args()
    import jax

    import difana

    difana.enable_x64()
    options.out.mkdir(parents=True, exist_ok=True)
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(options.out / "cache"))
    file = options.out / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    setup = REDUCED if options.reduced else FULL
    if not options.report:
        rows = load(options.data)
        for seed in options.seeds:
            steps = analyse(
                rows, seed, tuple(options.sizes), results, setup, tuple(options.methods)
            )
            for size, found in steps:
                results[f"{seed}-{size:g}"] = found
                file.write_text(json.dumps(results), encoding="utf-8")
                print(seed, size, found["seconds"], flush=True)
    if not results:
        return
    print(table(results))
    print(f"gain over the best baseline: {gain(results)}")
    if options.write or options.report:
        covered = coverage_of(results, COVERED, toys=options.toys, file=options.out / "toys.json")
        print(coverage_table(covered))
        here = Path(__file__).parent
        if options.write:
            text = summary(results, covered, check_with_pyhf(results))
            (here / "expected.json").write_text(json.dumps(text, indent=1) + "\n", "utf-8")
            picture(results, here / "gain.png")


if __name__ == "__main__":
    main()
