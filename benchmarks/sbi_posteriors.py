"""Posteriors of four tasks of sbibm by conditional flows against its reference samples: C2ST.

python benchmarks/sbi_posteriors.py sbibm-1.1.0-py2.py3-none-any.whl [--simulations N] [--write]

The wheel is read, not installed (``pip download --no-deps sbibm==1.1.0``). A classifier that tells
nothing apart has a C2ST of 0.5. Simulation-based calibration: ranks of the true parameters among
posterior draws of new simulations, flat where the posterior is calibrated.
"""

from __future__ import annotations

import argparse
import bz2
import io
import time
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from difana.flows import Column, coupling_flow, fit_flow
from difana.ratio import RatioRows, fit_ratio
from difana.train import Training

HERE = Path(__file__).parent
OBSERVATIONS = range(1, 6)


def two_moons(rng, theta):
    angle, radius = (
        rng.uniform(-np.pi / 2, np.pi / 2, len(theta)),
        rng.normal(0.1, 0.01, len(theta)),
    )
    point = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], axis=1)
    one, two = theta.T
    return point + np.stack([-np.abs(one + two), two - one], axis=1) / np.sqrt(2)


def gaussian_mixture(rng, theta):
    width = np.where(rng.random(len(theta)) < 0.5, 1.0, 0.1)[:, None]
    return theta + width * rng.normal(size=theta.shape)


def gaussian_linear(rng, theta):
    return theta + np.sqrt(0.1) * rng.normal(size=theta.shape)


def slcp(rng, theta):
    one, two, rho = theta[:, 2] ** 2, theta[:, 3] ** 2, np.tanh(theta[:, 4])
    z = rng.normal(size=(len(theta), 4, 2))
    first = theta[:, None, 0] + one[:, None] * z[..., 0]
    mixed = rho[:, None] * z[..., 0] + np.sqrt(1 - rho**2)[:, None] * z[..., 1]
    second = theta[:, None, 1] + two[:, None] * mixed
    return np.stack([first, second], axis=2).reshape(len(theta), 8)


TASKS = {
    "two_moons": (two_moons, 2, 1.0), "gaussian_mixture": (gaussian_mixture, 2, 10.0),
    "gaussian_linear": (gaussian_linear, 10, None), "slcp": (slcp, 5, 3.0),
}  # fmt: skip


def prior(rng, events, dims, edge):
    if edge is None:
        return np.sqrt(0.1) * rng.normal(size=(events, dims))
    return rng.uniform(-edge, edge, (events, dims))


def c2st(one, two, key) -> float:
    """Return the accuracy of a classifier of two samples on rows that did not train it."""
    rows = np.concatenate([one, two])
    ones, zeros = np.ones(len(one)), np.zeros(len(two))
    both = RatioRows(
        jnp.asarray(rows, jnp.float32), jnp.asarray(np.concatenate([ones, 0 * zeros]), jnp.float32),
        jnp.asarray(np.concatenate([0 * ones, zeros + 1]), jnp.float32),
    )  # fmt: skip
    training = Training(epochs=40, batch_size=256, learning_rate=1e-3, patience=8)
    width = max(32, 10 * rows.shape[1])
    found = fit_ratio(both, key=key, training=training, hidden=(width, width))
    held = np.asarray(found.held)
    guess = np.asarray(found.log_ratio(both.x))[held] > 0
    return float(np.mean(guess == (np.asarray(both.above)[held] > 0)))


def read(wheel, task, number):
    folder = f"sbibm/tasks/{task}/files/num_observation_{number}"
    packed = wheel.read(f"{folder}/reference_posterior_samples.csv.bz2")
    tables = wheel.read(f"{folder}/observation.csv"), bz2.decompress(packed)
    return [np.loadtxt(io.BytesIO(table), delimiter=",", skiprows=1) for table in tables]


def posterior(task, simulations, seed):
    """Return flow, seconds of the training and the ranks of true parameters."""
    simulate, dims, edge = TASKS[task]
    rng = np.random.default_rng(seed)
    theta = prior(rng, simulations, dims, edge)
    x = simulate(rng, theta)
    columns = {} if edge is None else {c: Column("between", -edge, edge) for c in range(dims)}
    begin = time.perf_counter()
    flow = coupling_flow(
        theta, x, key=jax.random.key(seed), columns=columns, layers=6, hidden=(96, 96), bins=10
    )
    training = Training(epochs=40, batch_size=500, learning_rate=1e-3, patience=6, average=0.999)
    found = fit_flow(flow, theta, x, key=jax.random.key(seed + 1), training=training)
    seconds = time.perf_counter() - begin
    truth = prior(rng, 1000, dims, edge)
    draws = found.flow.sample(simulate(rng, truth), key=jax.random.key(seed + 2), samples=99)
    ranks = np.sum(np.asarray(draws) < truth[:, None], axis=1)
    return found.flow, seconds, ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--simulations", type=int, default=100_000)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines, means = [], []
    with zipfile.ZipFile(options.wheel) as wheel:
        for task in options.tasks:
            flow, seconds, ranks = posterior(task, options.simulations, 0)
            scores = []
            for number in OBSERVATIONS:
                observed, reference = read(wheel, task, number)
                key = jax.random.key(100 + number)
                draws = flow.sample(observed[None], key=key, samples=len(reference))
                scores.append(c2st(np.asarray(draws)[0], reference, key))
            p = [stats.kstest((column + 0.5) / 100, "uniform").pvalue for column in ranks.T]
            lines.append(
                f"| {task} | {' '.join(f'{one:.3f}' for one in scores)} | {np.mean(scores):.3f} |"
                f" {min(p) * len(p):.2f} | {seconds:.0f} |"
            )
            means.append(np.mean(scores))
            print(lines[-1], flush=True)
    where = (
        "`python benchmarks/sbi_posteriors.py sbibm-1.1.0-py2.py3-none-any.whl --simulations"
        f" {options.simulations} --write`; jax {jax.__version__}, cpu, 2 cores shared with others."
    )
    how = (
        f"{options.simulations} simulations, one flow a task (6 coupling layers, 96-96, 10 bins),"
        " observations 1 to 5, 10,000 reference samples each. C2ST:"
        " accuracy of a classifier on held-out samples (0.5: nothing to tell apart). Calibration:"
        " smallest p-value of the"
        " parameters (Kolmogorov-Smirnov test of ranks, 1000 simulations), times their number."
    )
    text = "\n".join([
        "# Posteriors of sbibm tasks by conditional flows", "", where, "", how, "",
        "| task | C2ST of observations 1-5 | mean | calibration p | training [s] |",
        "|---|---|---|---|---|", *lines, "", f"Mean of the tasks: {np.mean(means):.3f}.", "",
    ])  # fmt: skip
    print(text)
    if options.write:
        (HERE / "results" / "sbi_posteriors.md").write_text(text)


if __name__ == "__main__":
    main()
