"""Simulation corrected to data by one flow: AUC, correlations, order of quantiles.

python paper_examples/oneflow/run.py [--events N] [--write]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import toy

from difana.flows import fit_correction
from difana.metrics import roc_auc
from difana.ratio import RatioRows, fit_ratio
from difana.train import Training

HERE = Path(__file__).parent
CLASSIFIER = Training(epochs=10, batch_size=2048, learning_rate=2e-3, patience=4)


def two_classes(one: np.ndarray, two: np.ndarray, weights: np.ndarray) -> RatioRows:
    """Return rows of data over simulation with weights."""
    zeros = np.zeros(len(one)), np.zeros(len(two))
    columns = (
        np.concatenate([one, two]),
        np.concatenate([zeros[0] + 1 / len(one), zeros[1]]),
        np.concatenate([zeros[0], weights / weights.sum()]),
    )
    return RatioRows(*(jnp.asarray(column, jnp.float32) for column in columns))


def auc(data: toy.Table, x: np.ndarray, given: np.ndarray, weights: np.ndarray, seed: int) -> float:
    """Return the area under the curve of a classifier that sees variables and conditions."""
    tables = (np.concatenate([a, b], axis=1) for a, b in ((data.x, data.given), (x, given)))
    rows = two_classes(*tables, weights)
    found = fit_ratio(rows, key=jax.random.key(seed), training=CLASSIFIER)
    held = np.asarray(found.held)
    score = np.asarray(found.log_ratio(rows.x))[held]
    total = np.asarray(rows.above + rows.below)[held]
    return float(roc_auc(score, np.asarray(rows.above > 0)[held].astype(float), total))


def correlations(x: np.ndarray, given: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the correlation matrix of variables and conditions."""
    covariance = np.cov(np.concatenate([x, given], axis=1).T, aweights=weights)
    width = np.sqrt(np.diag(covariance))
    return covariance / width / width[:, None]


def run(number: int, seed: int, epochs: int) -> dict:
    """Return all figures; judged on events that trained nothing."""
    rng = np.random.default_rng(seed)
    data, simulation = (toy.events(rng, number, data=flag) for flag in (True, False))
    test, raw = (toy.events(rng, number // 2, data=flag) for flag in (True, False))
    rows = two_classes(data.given, simulation.given, np.ones(number))
    kinematics = fit_ratio(rows, key=jax.random.key(seed), training=CLASSIFIER, hidden=(32, 32))

    def weights(given: np.ndarray) -> np.ndarray:
        return np.exp(np.asarray(kinematics.log_ratio(jnp.asarray(given, jnp.float32)), np.float64))

    found = fit_correction(
        data.x, simulation.x, data_given=data.given, simulation_given=simulation.given,
        simulation_weights=weights(simulation.given), key=jax.random.key(seed + 1), layers=5,
        hidden=(64, 64), bins=10, names=toy.NAMES,
        training=Training(epochs=epochs, batch_size=2048, learning_rate=2e-3, average=0.998),
    )  # fmt: skip
    w = weights(raw.given)
    move = jax.jit(lambda x, given: found.correction(x, given))
    corrected = np.asarray(move(jnp.asarray(raw.x), jnp.asarray(raw.given)))
    target = correlations(test.x, test.given, None)
    order = []  # along each variable, the others and the kinematics fixed
    centre = np.median(raw.x, axis=0)
    for column in range(3):
        line = np.repeat(centre[None], 200, axis=0)
        line[:, column] = np.quantile(raw.x[:, column], np.linspace(0.005, 0.995, 200))
        given = np.repeat(np.median(raw.given, axis=0)[None], 200, axis=0)
        moved = np.asarray(move(jnp.asarray(line), jnp.asarray(given)))[:, column]
        order.append(bool((np.diff(moved) > 0).all()))
    return {
        "auc_before": auc(test, raw.x, raw.given, w, seed),
        "auc_after": auc(test, corrected, raw.given, w, seed),
        "correlations_before": float(np.abs(correlations(raw.x, raw.given, w) - target).max()),
        "correlations_after": float(np.abs(correlations(corrected, raw.given, w) - target).max()),
        "order_kept": order, "seconds": found.training.seconds,
    }  # fmt: skip


def main() -> None:
    """Run, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000, help="of data, as many simulated")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = {}
    for seed in options.seeds:
        found[str(seed)] = run(options.events, seed, options.epochs)
        print(seed, json.dumps(found[str(seed)], indent=1), flush=True)
    if options.write:
        out = {"events": options.events, "epochs": options.epochs, "seeds": found}
        (HERE / "expected.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
