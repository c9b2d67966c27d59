"""Six jet observables: IBU, UniFold and MultiFold on a proxy of the Z + jets sample of OmniFold.

python paper_examples/omnifold_jets/run.py [--reduced] [--seeds 0 1 2] [--write] [--keep so_far]
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
from difana.data.generate import JET_BINS, JET_NAMES, JetLevels, jet_recursion, jets
from difana.metrics import roc_auc
from difana.nn import MLP
from difana.ratio import RatioRows, fit_ratio
from difana.train import Training
from difana.unfold import bayes, fit_omnifold, response, triangular, unfolding_problem

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


def scaled(levels: JetLevels) -> np.ndarray:
    """Return the weights of the simulation: its yield is that of the data."""
    return np.full(len(levels.gen), len(levels.data) / len(levels.gen))


def transformed(x: Any) -> Any:
    """Return positive observables as logarithms, bounded ones as logits: no edges to learn."""
    positive, bounded = x[:, :3], x[:, 4:] / jnp.asarray([0.5, 1.2])
    logit = jnp.log(bounded) - jnp.log1p(-bounded)
    return jnp.concatenate([jnp.log(positive), x[:, 3:4], logit], axis=1)


def ibu(levels: JetLevels, i: int, iterations: int) -> np.ndarray:
    """Return the histogram of one observable by iterative Bayesian unfolding."""
    problem = unfolding_problem(
        levels.gen[:, i], levels.reco[:, i], levels.data[:, i], gen_weights=scaled(levels)
    )
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
    take = jnp.asarray(columns)
    problem = unfolding_problem(
        *(transformed(part)[:, take] for part in (levels.gen, levels.reco, levels.data)),
        gen_weights=scaled(levels),
    )
    hidden = options["hidden"] if len(columns) > 1 else options["hidden_uni"]
    net = lambda k: MLP(len(columns), hidden, activation="silu", key=k)  # noqa: E731
    training = Training(
        **{name: options[name] for name in ("epochs", "batch_size", "learning_rate", "patience")}
    )
    return np.asarray(fit_omnifold(
        problem, key=key, gen_net=net, reco_net=net, iterations=options["iterations"],
        training=training,
    ).weights())  # fmt: skip


def ideal_auc(iterations: int, draws: int = 400_000) -> float:
    """Return the AUC of the truth against what perfect classifiers leave after the iterations."""
    (mean, covariance), *steps = jet_recursion(iterations)
    laws = (mean, covariance), steps[-1]
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.multivariate_normal(*law, draws) for law in laws])
    logs = []
    for centre, spread in laws:
        away = np.linalg.solve(np.linalg.cholesky(spread), (x - centre).T)
        logs.append(-0.5 * (away**2).sum(axis=0) - 0.5 * np.linalg.slogdet(spread)[1])
    labels = np.repeat([1.0, 0.0], draws)
    return float(roc_auc(logs[0] - logs[1], labels, np.ones(2 * draws)))


def joint_auc(gen: Any, truth: Any, weights: np.ndarray, key: jax.Array, options: dict) -> float:
    """Return the AUC, on held-out jets, of a classifier of weighted jets against the truth."""
    gen, truth = np.asarray(transformed(gen)), np.asarray(transformed(truth))
    half = len(gen) // 2, len(truth) // 2
    rows = jnp.asarray(np.concatenate([truth[: half[1]], gen[: half[0]]]))
    zeros = np.zeros(half[1]), np.zeros(half[0])
    classes = RatioRows(
        rows,
        jnp.asarray(np.concatenate([np.ones(half[1]), zeros[1]])),
        jnp.asarray(np.concatenate([zeros[0], weights[: half[0]]])),
    )
    epochs = options["auc_epochs"]
    training = Training(epochs=epochs, batch_size=options["batch_size"], patience=epochs)
    ratio = fit_ratio(classes, key=key, training=training, hidden=options["hidden"]).log_ratio
    test = np.concatenate([truth[half[1] :], gen[half[0] :]])
    labels = np.concatenate([np.ones(len(truth) - half[1]), np.zeros(len(gen) - half[0])])
    w = np.concatenate([np.ones(len(truth) - half[1]), weights[half[0] :]])
    return float(roc_auc(ratio(jnp.asarray(test)), labels, w))


def run(
    *, seed: int, events: int, measured: int, keep: Path | None = None, **options: Any
) -> dict[str, Any]:
    """Return the discriminators of every method, and the AUC of the joint tests."""
    levels = jets(key=jax.random.key(seed), events=events, measured=measured)
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

    def auc(gen: Any, weights: np.ndarray, key: jax.Array) -> float:
        return joint_auc(gen, levels.truth, weights, key, options)

    step("prior AUC", lambda: auc(levels.gen, np.ones(events), keys[8]))
    # what the test gives where there is nothing to find: other jets of the same law
    step("truth AUC", lambda: auc(
        jets(key=keys[9], events=1, measured=events).truth, np.ones(events), keys[7]
    ))  # fmt: skip
    step("IBU", lambda: [distance(ibu(levels, i, options["iterations"]), truth[i])
                         for i in columns])  # fmt: skip
    multi: list[np.ndarray] = []

    def multifold() -> list[float]:
        multi.append(omnifold(levels, list(columns), options, keys[6]))
        return weighted(multi[0])

    if "MultiFold AUC" not in found:
        found.pop("MultiFold", None)
    step("MultiFold", multifold)
    step("MultiFold AUC", lambda: auc(levels.gen, multi[0], keys[7]))
    for i in columns:
        step(f"UniFold {JET_NAMES[i]}", lambda i=i: distance(
            histogram(levels.gen[:, i], i, omnifold(levels, [i], options, keys[i])), truth[i]
        ))  # fmt: skip
    found["UniFold"] = [found[f"UniFold {name}"] for name in JET_NAMES]
    return found


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation over the seeds, and the targets."""
    found: dict[str, Any] = {}
    for name in (*PUBLISHED, "prior AUC", "truth AUC", "MultiFold AUC"):
        values = np.array([row[name] for row in rows.values()])
        found[name] = {
            "mean": np.round(values.mean(axis=0), 4).tolist(),
            "sd": np.round(values.std(axis=0, ddof=1), 4).tolist() if len(values) > 1 else None,
        }
    best, ibu = (np.array(found[name]["mean"]) for name in ("MultiFold", "IBU"))
    found["MultiFold at least as good as IBU"] = (best <= ibu).tolist()
    found["AUC at most 0.52"] = found["MultiFold AUC"]["mean"] <= 0.52
    return found


def table(found: dict[str, Any]) -> str:
    """Return the discriminators as text."""
    lines = ["x 1000".ljust(12) + "".join(name.rjust(9) for name in JET_NAMES)]
    lines += [
        name.ljust(12) + "".join(f"{value:9.2f}" for value in found[name])
        for name in ("data", "prior", "IBU", "UniFold", "MultiFold")
    ]
    names = ("prior AUC", "truth AUC", "MultiFold AUC")
    lines += [f"{name}: {found[name]:.4f}" for name in names]
    return "\n".join(lines)


OPTIONS: dict[str, Any] = {
    "events": 200_000, "measured": 100_000, "iterations": 8, "epochs": 10, "batch_size": 2000,
    "learning_rate": 3e-3, "patience": 4, "hidden": (64, 64), "hidden_uni": (32, 32),
    "auc_epochs": 10,
}  # fmt: skip
REDUCED: dict[str, Any] = OPTIONS | {
    "events": 20_000, "measured": 10_000, "epochs": 6, "batch_size": 1000, "hidden": (32,),
    "hidden_uni": (16,), "auc_epochs": 8,
}  # fmt: skip
"""Options of the quick run of the tests."""


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="results so far, one file a seed: PATH.seed")
    parser.add_argument("--reduced", action="store_true", help="one small, quick run")
    parser.add_argument("--write", action="store_true", help="write expected.json")
    arguments = parser.parse_args()
    difana.enable_x64()
    options = REDUCED if arguments.reduced else OPTIONS
    rows = {}
    for seed in arguments.seeds:
        keep = None if arguments.keep is None else arguments.keep.with_suffix(f".{seed}")
        rows[str(seed)] = run(seed=seed, keep=keep, **options)
        print(table(rows[str(seed)]), flush=True)
    print(json.dumps(summary(rows), indent=1))
    if arguments.write:
        content = {
            "options": options, "names": JET_NAMES, "published": PUBLISHED,
            "ideal AUC": round(ideal_auc(options["iterations"]), 4),
            "summary": summary(rows), "seeds": rows,
        }  # fmt: skip
        (HERE / "expected.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
