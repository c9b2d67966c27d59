"""Neural importance sampling on closed-form integrands, against VEGAS+; see README.md.

python paper_examples/madnis/run.py [--vegas ENV/bin/python] [--reduced] [--write]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import toys

from difana.flows import (
    effective_gain,
    fit_integrator,
    integrator,
    largest_weight,
    unweight,
    unweighting_efficiency,
)
from difana.train import Training

HERE = Path(__file__).parent


def channel(centre: float) -> Any:
    """Return a map of the cube with more points around a place, as a propagator has it."""

    def mapped(u: jax.Array) -> tuple[jax.Array, jax.Array]:
        low, high = jnp.arctan((0 - centre) / 0.2), jnp.arctan((1 - centre) / 0.2)
        angle = low + u * (high - low)
        slope = jnp.log(0.2 * (high - low)) - 2 * jnp.log(jnp.cos(angle))
        return centre + 0.2 * jnp.tan(angle), jnp.sum(slope, axis=-1)

    return mapped


def product(seed: int, points: int) -> dict:
    """Return the relative deviation of a point after 100 steps of 1024."""
    start = integrator(lambda x: toys.product(x, jnp), 4, key=jax.random.key(seed))
    flat = start.integrate(key=jax.random.key(seed + 1), number=points)
    training = Training(steps=100, batch_size=1024, learning_rate=1e-2)
    found = fit_integrator(start, key=jax.random.key(seed + 2), training=training)
    after = found.integrator.integrate(key=jax.random.key(seed + 3), number=points)
    return {
        "flat": float(flat.relative_deviation), "trained": float(after.relative_deviation),
        "value": float(after.value), "error": float(after.error),
    }  # fmt: skip


def opposite(seed: int, points: int, steps: int) -> dict:
    """Return the integral of two peaks of opposite sign."""
    start = integrator(lambda x: toys.opposite(x, jnp), 2, key=jax.random.key(seed))
    training = Training(steps=steps, batch_size=1024, learning_rate=5e-3)
    found = fit_integrator(start, key=jax.random.key(seed + 2), training=training, replay=4)
    after = found.integrator.integrate(key=jax.random.key(seed + 3), number=points)
    return {"value": float(after.value), "error": float(after.error)}


def diagonal(seed: int, points: int, steps: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """Return figures, points and weights of the six-dimensional toy with two channels."""
    start = integrator(
        lambda x: toys.diagonal(x, jnp), 6, key=jax.random.key(seed), layers=6,
        channels=[channel(c) for c in toys.CENTRES],
    )  # fmt: skip
    training = Training(steps=steps, batch_size=512, learning_rate=5e-3)
    found = fit_integrator(start, key=jax.random.key(seed + 2), training=training)
    after = found.integrator.integrate(key=jax.random.key(seed + 3), number=points)
    drawn = jax.jit(lambda key: found.integrator.points(key=key, number=points // 2))(
        jax.random.key(seed + 4)
    )
    weights = np.asarray(drawn.weights, np.float64)
    figures = {
        "value": float(after.value), "error": float(after.error),
        "relative_deviation": float(after.relative_deviation),
        "efficiency": unweighting_efficiency(weights.ravel()),
        "largest_over_mean": largest_weight(weights.ravel()) / float(weights.mean()),
        "evaluations": steps * 512 * 2,
    }  # fmt: skip
    return figures, np.asarray(drawn.x).reshape(-1, 6), weights.ravel()


def two_stages(x: np.ndarray, weights: np.ndarray, seed: int) -> dict:
    """Return gain and exactness of unweighting with a surrogate that is wrong by a fifth."""
    noise = np.sin(31 * x.sum(axis=1)) * 0.2  # a smooth mistake, like that of a regression
    surrogate = np.maximum(weights, 1e-12 * weights.max()) * np.exp(noise)
    one = unweight(weights, key=jax.random.key(seed))
    two = unweight(weights, key=jax.random.key(seed), surrogate=surrogate)
    means = [float(np.average(x[k.kept, 0] > 0.5, weights=k.weights)) for k in (one, two)]
    return {
        "efficiency": one.efficiency, "efficiency_two": two.efficiency,
        "evaluations_two": two.evaluations, "gain_at_1000": effective_gain(one, two, cost=1e3),
        "above_half": means, "error": 0.5 / np.sqrt(min(one.kept.sum(), two.kept.sum())),
    }  # fmt: skip


def run(seed: int, *, steps: int, points: int, vegas: str | None) -> dict:
    """Return all figures of a seed."""
    out: dict = {"product": product(seed, points), "opposite": opposite(seed, points, steps)}
    figures, x, weights = diagonal(seed, points, steps)
    out |= {"diagonal": figures, "two_stages": two_stages(x, weights, seed)}
    if vegas:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.npy"
            command = [vegas, str(HERE / "vegas_peer.py"), str(file), str(figures["evaluations"]),
                       str(points)]  # fmt: skip
            subprocess.run(command, check=True)
            theirs = np.load(file)
        out["vegas"] = {
            "efficiency": unweighting_efficiency(theirs), "value": float(theirs.mean()),
            "largest_over_mean": largest_weight(theirs) / float(theirs.mean()),
        }  # fmt: skip
    return out


def main() -> None:
    """Run, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vegas", help="a Python with the package vegas")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 10, 20])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = {}
    for seed in options.seeds[: 1 if options.reduced else None]:
        steps, points = (60, 20_000) if options.reduced else (options.steps, 100_000)
        found[str(seed)] = run(seed, steps=steps, points=points, vegas=options.vegas)
        print(seed, json.dumps(found[str(seed)], indent=1), flush=True)
    if options.write:
        (HERE / "expected.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
