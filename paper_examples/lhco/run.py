"""Optimise the LHC Olympics analysis for the expected limit, against every cheaper way.

    python paper_examples/lhco/run.py --data PATH --seeds 5 --out lhco-output

Systematics of 0, 1, 2 and 4 times the nominal size (jet mass scale 3 %, tau21 scale 5 %). Every
limit is from hard bins of the test split. Each seed and size is kept in ``results.json`` as soon as
it is done; the same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from baselines import CLASSIFIERS, binnings
from events import splits_of
from prepare import DEFAULT, load
from report import check_with_pyhf, coverage_rows, gain, picture, summary, table

SIZES = (0.0, 1.0, 2.0, 4.0)
COVERED_SIZE = 1.0  # the analysis whose coverage is measured
FULL: dict[str, Any] = {
    "network": {"hidden": (64, 64, 64)},
    "training": {
        "bins": 10,
        "pretrain_steps": 1200,
        "search": 500,
        "steps": 20,
        "batch": 1_000_000,  # all training events: the exact gradient of the full sample
        "rate": 2e-5,
        "edge_rate": 3e-4,
        "validate_every": 5,
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


def analyse(
    rows: dict[str, np.ndarray], seed: int, sizes: tuple[float, ...], known: dict, setup: dict
):
    """Yield ``(size, result)`` of one seed; the classifier without systematics is shared."""
    import jax

    from difana.analysis import NetworkOptions, TrainingOptions

    network = NetworkOptions(**setup["network"])
    training = TrainingOptions(**setup["training"])
    shared: dict[str, Any] = {}
    for size in sizes:
        if f"{seed}-{size:g}" in known:
            continue
        begin = time.perf_counter()
        splits = splits_of(rows, seed=seed, size=size, events=setup["events"])
        found = one(splits, jax.random.key(seed), network, training, shared)
        found["seconds"] = round(time.perf_counter() - begin, 1)
        yield size, found


def one(splits, key, network, training, shared) -> dict[str, Any]:
    """Return the limits of all observables in all binnings, and the final workspace."""
    import jax

    from difana.analysis import log_objective, optimise
    from difana.analysis.observables import Setting, expectation
    from difana.analysis.templates import observe
    from difana.likelihood import Parameter, to_workspace

    train, validation, test = splits
    parameters = (Parameter("mu", bounds=((0.0, 10.0),)),)
    on = Setting("SR", "mu", training.bins, (), parameters, staterror=True)
    score = log_objective(training, parameters=parameters)
    limits: dict[str, float] = {}
    start: Any = None
    for name, train_classifier in CLASSIFIERS.items():
        net = train_classifier(
            train, validation, network=network, training=training, key=key, shared=shared
        )
        if net is None:  # there is nothing to augment with
            continue
        seen = [observe(net, part) for part in splits]
        for binning, found in binnings(seen, score, on=on, training=training):
            label = f"{name}, {binning}"
            limits[label] = expectation(label, seen[2], found, on=on).median if len(found) else None
        if start is None:  # cross-entropy in its best bins
            start = net, found
    best = optimise(
        train,
        validation,
        network=network,
        training=training,
        key=jax.random.fold_in(key, 1),
        parameters=parameters,
        progress_bar=False,
        baseline=start[0],
        edges=start[1],
    )
    final = expectation("difana", observe(best.net, test), np.asarray(best.edges), on=on)
    model = on.model(on.channel(observe(best.net, test), np.asarray(final.edges, np.float32)))
    data = model.expected(model.init.at[model.poi_index].set(0.0))
    records = [r for r in best.history if r["kind"] == "validation"]
    return {
        "limits": {**limits, "difana": final.median},
        "status": final.status,
        "validation": [round(float(r["metric"]), 5) for r in records],
        "workspace": to_workspace(model, data, measurement="lhco"),
    }


def main() -> None:
    """Run what is missing, then write table, picture and coverage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT / "lhco")
    parser.add_argument("--out", type=Path, default=Path("lhco-output"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--toys", type=int, default=4000)
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
        for seed in range(options.seeds):
            for size, found in analyse(rows, seed, tuple(options.sizes), results, setup):
                results[f"{seed}-{size:g}"] = found
                file.write_text(json.dumps(results), encoding="utf-8")
                print(seed, size, json.dumps(found["limits"]), found["seconds"], flush=True)
    if not results:
        return
    print(table(results))
    print(f"gain over the best baseline: {gain(results)}")
    covered = coverage_rows(results, size=COVERED_SIZE, toys=options.toys)
    print("\n".join(covered))
    if options.write:
        here = Path(__file__).parent
        text = summary(results, covered, check_with_pyhf(results))
        (here / "expected.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        picture(results, here / "gain.png")


if __name__ == "__main__":
    main()
