"""Six jet observables: IBU, UniFold and MultiFold on a proxy of the Z + jets sample of OmniFold.

python paper_examples/omnifold_jets/run.py [--reduced] [--write] [--keep so_far.json]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import difana
from difana.data.generate import JET_BINS, JET_NAMES, JetLevels, jets
from difana.metrics import roc_auc
from difana.nn import MLP
from difana.unfold import OmniFold, bayes, log_ratio, response, triangular, unfolding_problem

HERE = Path(__file__).parent
PUBLISHED = {  # arXiv:2503.09720, executed notebook: with acceptance, 5 iterations; x 1000
    "data": (24.59, 15.87, 129.92, 14.70, 3.86, 11.12),
    "prior": (3.46, 22.39, 14.94, 18.97, 3.99, 20.70),
    "IBU": (9.74, 0.48, 1.46, 0.89, 0.45, 1.15),
    "UniFold": (9.51, 0.46, 1.44, 0.73, 0.44, 1.11),
    "MultiFold": (2.38, 0.35, 0.46, 0.20, 0.47, 0.63),
}  # in the order of JET_NAMES


def edges(i: int) -> np.ndarray:
    """Return the bins of an observable."""
    low, high, bins = JET_BINS[i]
    return np.linspace(low, high, bins + 1)


def histogram(values: Any, i: int, weights: Any = None) -> np.ndarray:
    """Return the histogram of an observable."""
    return np.histogram(np.asarray(values), edges(i), weights=weights)[0]


def distance(p: np.ndarray, q: np.ndarray) -> float:
    """Return the triangular discriminator times 1000."""
    return 1000 * float(triangular(p, q))


def ibu(levels: JetLevels, i: int, iterations: int) -> np.ndarray:
    """Return the histogram of one observable by iterative Bayesian unfolding."""
    problem = unfolding_problem(levels.gen[:, i], levels.reco[:, i], levels.data[:, i])
    kept = histogram(levels.gen[:, i], i) > 0  # bins without simulation cannot be unfolded
    first, last = int(np.argmax(kept)), len(kept) - int(np.argmax(kept[::-1]))
    chosen = edges(i)[first : last + 1]
    if not kept[first:last].all():
        chosen = np.append(edges(i)[:last][kept[:last]], edges(i)[last])
    binned = response(problem, gen_edges=chosen, reco_edges=edges(i))
    values = np.asarray(bayes(binned, iterations=iterations).values)
    out = np.zeros(len(kept))
    places = np.searchsorted(edges(i), chosen[:-1] + 1e-9) - 1
    out[places] = values
    return out


def omnifold(levels: JetLevels, columns: list[int], options: dict, key: jax.Array) -> np.ndarray:
    """Return the weights of an unfolding of some observables together."""
    problem = unfolding_problem(
        levels.gen[:, columns], levels.reco[:, columns], levels.data[:, columns]
    )
    hidden = options["hidden"] if len(columns) > 1 else options["hidden_uni"]
    net = lambda k: MLP(len(columns), hidden, activation="silu", key=k)  # noqa: E731
    model = OmniFold(
        gen_net=net, reco_net=net, iterations=options["iterations"], epochs=options["epochs"],
        batch_size=options["batch_size"], learning_rate=options["learning_rate"],
        patience=options["patience"],
    )  # fmt: skip
    return np.asarray(model.fit(problem, key=key).weights())


def joint_auc(levels: JetLevels, weights: np.ndarray, key: jax.Array, options: dict) -> float:
    """Return the AUC, on held-out jets, of a classifier of unfolded jets against the truth."""
    gen, truth = np.asarray(levels.gen), np.asarray(levels.truth)
    half = len(gen) // 2, len(truth) // 2
    rows = jnp.asarray(np.concatenate([truth[: half[1]], gen[: half[0]]]))
    zeros = np.zeros(half[1]), np.zeros(half[0])
    ratio = log_ratio(
        rows,
        jnp.asarray(np.concatenate([np.ones(half[1]), zeros[1]])),
        jnp.asarray(np.concatenate([zeros[0], weights[: half[0]]])),
        key=key, hidden=options["hidden"], epochs=options["auc_epochs"],
        batch_size=options["batch_size"], patience=5,
    )  # fmt: skip
    test = np.concatenate([truth[half[1] :], gen[half[0] :]])
    labels = np.concatenate([np.ones(len(truth) - half[1]), np.zeros(len(gen) - half[0])])
    w = np.concatenate([np.ones(len(truth) - half[1]), weights[half[0] :]])
    return float(roc_auc(ratio(jnp.asarray(test)), labels, w))


def run(*, seed: int, events: int, keep: Path | None = None, **options: Any) -> dict[str, Any]:
    """Return the discriminators of every method, and the AUC of the joint tests."""
    levels = jets(key=jax.random.key(seed), events=events)
    keys = jax.random.split(jax.random.key(seed + 1000), 10)
    found: dict[str, Any] = {}
    if keep is not None and keep.is_file():
        found = json.loads(keep.read_text())

    def step(name: str, make: Any) -> None:
        if name not in found:
            begin = time.perf_counter()
            found[name] = make()
            found.setdefault("seconds", {})[name] = round(time.perf_counter() - begin, 1)
            print(f"{name}: {found[name]} ({found['seconds'][name]} s)", flush=True)
            if keep is not None:
                keep.write_text(json.dumps(found))

    columns = range(len(JET_NAMES))
    truth = [histogram(levels.truth[:, i], i) for i in columns]

    def weighted(weights: np.ndarray) -> list[float]:
        return [distance(histogram(levels.gen[:, i], i, weights), truth[i]) for i in columns]

    step("data", lambda: [distance(histogram(levels.data[:, i], i), truth[i]) for i in columns])
    step("prior", lambda: weighted(np.ones(events)))
    step("prior AUC", lambda: joint_auc(levels, np.ones(events), keys[8], options))
    step("IBU", lambda: [distance(ibu(levels, i, options["iterations"]), truth[i])
                         for i in columns])  # fmt: skip
    multi: list[np.ndarray] = []

    def multifold() -> list[float]:
        multi.append(omnifold(levels, list(columns), options, keys[6]))
        return weighted(multi[0])

    if "MultiFold AUC" not in found:
        found.pop("MultiFold", None)
    step("MultiFold", multifold)
    step("MultiFold AUC", lambda: joint_auc(levels, multi[0], keys[7], options))
    for i in columns:
        step(f"UniFold {JET_NAMES[i]}", lambda i=i: distance(
            histogram(levels.gen[:, i], i, omnifold(levels, [i], options, keys[i])), truth[i]
        ))  # fmt: skip
    found["UniFold"] = [found.pop(f"UniFold {name}") for name in JET_NAMES]
    return found


def table(found: dict[str, Any]) -> str:
    """Return the discriminators as text."""
    lines = ["x 1000".ljust(12) + "".join(name.rjust(9) for name in JET_NAMES)]
    lines += [
        name.ljust(12) + "".join(f"{value:9.2f}" for value in found[name])
        for name in ("data", "prior", "IBU", "UniFold", "MultiFold")
    ]
    lines += [f"{name}: {found[name]:.4f}" for name in ("prior AUC", "MultiFold AUC")]
    return "\n".join(lines)


OPTIONS: dict[str, Any] = {
    "events": 100_000, "iterations": 5, "epochs": 20, "batch_size": 2000, "learning_rate": 3e-3,
    "patience": 4, "hidden": (64, 64), "hidden_uni": (32,), "auc_epochs": 30,
}  # fmt: skip
REDUCED: dict[str, Any] = OPTIONS | {
    "events": 10_000, "iterations": 3, "epochs": 8, "batch_size": 500, "hidden": (32,),
    "hidden_uni": (16,), "auc_epochs": 8,
}  # fmt: skip
"""Options of the quick run of the tests."""


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--events", type=int, default=OPTIONS["events"])
    parser.add_argument("--keep", type=Path, help="results so far, one file a seed: PATH.seed")
    parser.add_argument("--reduced", action="store_true", help="one small, quick run")
    parser.add_argument("--write", action="store_true", help="write expected.json")
    arguments = parser.parse_args()
    difana.enable_x64()
    options = REDUCED if arguments.reduced else OPTIONS | {"events": arguments.events}
    rows = {}
    for seed in arguments.seeds:
        keep = None if arguments.keep is None else arguments.keep.with_suffix(f".{seed}")
        rows[str(seed)] = run(seed=seed, keep=keep, **options)
        print(table(rows[str(seed)]), flush=True)
    if arguments.write:
        content = {"options": options, "names": JET_NAMES, "published": PUBLISHED, "seeds": rows}
        (HERE / "expected.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
