"""Gaussian toys with exact answers: OmniFold by iteration, and with everything switched on.

python paper_examples/omnifold_gaussian/run.py [--parts recursion,...] [--reduced] [--write]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import cauchy, norm

import difana
from difana.data.generate import (
    acceptance_levels,
    gaussian_levels,
    gaussian_recursion,
    resolution_levels,
    with_resolution,
)
from difana.nn import MLP
from difana.train import Training
from difana.unfold import (
    Replicas,
    Settings,
    UnfoldingProblem,
    fit_nuisance,
    fit_omnifold,
    unfolding_problem,
)

HERE = Path(__file__).parent
ITERATIONS = (1, 2, 3, 5)
MORE = {"blurred": 3}  # events where the resolution is twice the width, in units of the others
CLEAN = {"missed": 0.0, "fakes": 0.0, "background": 0.0}
TOYS = ("minimal", "full", "shifted", "blurred")  # T1, T2 without its extras, T6, T7
MISSED = {"prior": (1, 5, 15), "learned": (1, 5)}  # iterations of T5
TRAINING = Training(epochs=20, batch_size=2000, learning_rate=2e-3, final_rate=0.01, patience=5)


class Quadratic(eqx.Module):
    """A logit of second order: exact for Gaussian densities."""

    coefficients: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logit of each event."""
        rows, columns = np.triu_indices(x.shape[1])
        terms = jnp.concatenate([jnp.ones_like(x[:, :1]), x, x[:, rows] * x[:, columns]], axis=1)
        return terms @ self.coefficients


def mlp(columns: int) -> Any:
    """Return a maker of small perceptrons."""
    return lambda key: MLP(columns, [32, 32], activation="silu", key=key)


def quadratic(columns: int) -> Any:
    """Return a maker of quadratic logits."""
    return lambda _: Quadratic(jnp.zeros(1 + columns + columns * (columns + 1) // 2, jnp.float32))


def moments(problem: UnfoldingProblem, log_weights: jax.Array) -> tuple[float, float]:
    """Return mean and standard deviation of the unfolded truth."""
    w = np.asarray(problem.gen_weights * np.exp(log_weights) * problem.pass_gen)
    z = np.asarray(problem.gen)[:, 0]
    mean = np.average(z, weights=w)
    return float(mean), float(np.sqrt(np.average((z - mean) ** 2, weights=w)))


def recursion(*, seed: int, events: int, nets: tuple[str, ...]) -> dict[str, Any]:
    """Return (mean, sd) after iterations 1, 2, 3, 5 by network and toy."""
    found: dict[str, Any] = {name: {} for name in nets}
    for toy in TOYS:
        more = MORE.get(toy, 1) * events
        levels = gaussian_levels(toy, key=jax.random.key(100 + seed), events=more, **CLEAN)
        problem = unfolding_problem(**levels.inputs())
        for name in nets:
            make = {"mlp": mlp, "quadratic": quadratic}[name](1)
            logs = fit_omnifold(
                problem, key=jax.random.key(seed), gen_net=make, reco_net=make,
                iterations=max(ITERATIONS), training=TRAINING,
            ).log_weights  # fmt: skip
            found[name][toy] = {str(k): moments(problem, logs[k - 1, 0]) for k in ITERATIONS}
    return found


def full(
    *, seed: int, events: int, backgrounds: tuple[str, ...] = ("subtract", "reweight", "add")
) -> dict[str, Any]:
    """Return mean, sd and yield over those of the truth, T2 with fakes, misses and background."""
    levels = gaussian_levels("full", key=jax.random.key(200 + seed), events=events)
    problem = unfolding_problem(**levels.inputs())
    found = {}
    for background in backgrounds:
        result = fit_omnifold(
            problem, key=jax.random.key(seed), gen_net=mlp(1), reco_net=mlp(1), iterations=5,
            missed="learned", fakes="learned", background=background, training=TRAINING,
        )  # fmt: skip
        total = float(result.unfolded().weights.sum()) / len(levels.truth)
        mean, sd = moments(problem, result.log_weights[-1, 0])
        found[background] = [mean, sd, total]
    return found


def acceptance(*, seed: int, events: int) -> dict[str, Any]:
    """Return mean, sd and yield over that of the truth, T5, by iteration."""
    levels = acceptance_levels(key=jax.random.key(300 + seed), events=events, measured=events // 2)
    problem = unfolding_problem(**levels.inputs())
    found = {}
    for missed, iterations in MISSED.items():
        make = lambda key: MLP(1, [64, 64], activation="silu", key=key)  # noqa: E731
        result = fit_omnifold(
            problem, key=jax.random.key(seed), gen_net=make, reco_net=make,
            iterations=max(iterations), missed=missed, fakes="learned",
        )  # otherwise by default  # fmt: skip
        logs, gen = result.log_weights[:, 0], problem.gen_weights[problem.pass_gen].sum()
        total = result.report.norm[:, 0] * gen / len(levels.truth)
        found[missed] = {
            str(k): [*moments(problem, logs[k - 1]), float(total[k - 1])] for k in iterations
        }
    return found


def exact_acceptance() -> dict[str, Any]:
    """Return mean, sd and yield over that of the truth, T5, of ideal iterations on a fine grid."""
    z, x = np.linspace(-10, 10, 2001), np.linspace(-11, 11, 2201)
    # twice as many events are simulated as measured
    prior, truth = 2 * cauchy.pdf(z, 0.3, 1.25), norm.pdf(z, 0, 2)
    seen = 0.3 + 0.7 * (z + 10) / 20
    smeared = norm.pdf(x[:, None], z, 0.2) * 0.01
    data = smeared @ (truth * seen)
    found: dict[str, Any] = {}
    for missed, iterations in MISSED.items():
        w, rows = np.ones_like(z), []
        for _ in range(max(iterations)):
            ratio = smeared.T @ (data / (smeared @ (prior * w * seen)))
            w = w * (ratio if missed == "learned" else seen * ratio + 1 - seen)
            total = np.sum(prior * w)
            mean = prior * w @ z / total
            rows.append([mean, np.sqrt(prior * w @ (z - mean) ** 2 / total), total / truth.sum()])
        found[missed] = {str(k): [float(v) for v in rows[k - 1]] for k in iterations}
    return found


def nuisance(*, seed: int, events: int) -> dict[str, Any]:
    """Return the fitted resolution of T8, its error, and mean and sd of the truth."""
    levels = resolution_levels(key=jax.random.key(400 + seed), events=events)
    nominal = unfolding_problem(**levels.inputs())

    def problem_at(theta: jax.Array) -> UnfoldingProblem:
        moved = with_resolution(nominal.gen, nominal.reco, theta[0])
        return eqx.tree_at(lambda p: p.reco, nominal, moved)

    training = dataclasses.replace(TRAINING, epochs=10, learning_rate=1e-2)
    fit = fit_nuisance(
        problem_at, [1.0], key=jax.random.key(seed), gen_net=quadratic(1), reco_net=quadratic(2),
        settings=Settings(iterations=8, training=training),
    )  # fmt: skip
    return {
        "theta": float(fit.theta[0]),
        "error": float(np.sqrt(fit.covariance[0, 0])),
        "moments": moments(nominal, fit.weights.log_weights),
        "unfoldings": len(fit.path),
        "converged": bool(fit.converged),
    }


def coverage(*, seed: int, events: int, experiments: int, bootstraps: int) -> dict[str, Any]:
    """Return how often the true yield of a bin lies within its bootstrap error, T1."""
    edges = np.linspace(-2.0, 2.0, 11)
    truth = events * np.diff(norm.cdf(edges))
    pulls = []
    for number in range(experiments):
        key, key_yield, key_fit = jax.random.split(
            jax.random.fold_in(jax.random.key(seed), number), 3
        )
        room = events + 5 * round(events**0.5)
        levels = gaussian_levels("minimal", key=key, events=room)
        inputs = levels.inputs()
        for name in ("gen", "reco", "pass_gen", "pass_reco"):
            inputs[name] = inputs[name][:events]
        measured = int(jax.random.poisson(key_yield, events))
        problem = unfolding_problem(**inputs, data_weights=np.arange(room) < measured)
        result = fit_omnifold(
            problem, key=key_fit, gen_net=mlp(1), reco_net=mlp(1),
            replicas=Replicas(bootstraps=bootstraps),
        )  # otherwise by default  # fmt: skip
        histogram = result.unfolded().histogram(problem.gen[:, 0], edges)
        pulls.append(
            ((np.asarray(histogram.values) - truth) / np.asarray(histogram.errors)).tolist()
        )
        print(f"experiment {number + 1}/{experiments}", flush=True)
    inside = np.mean(np.abs(pulls) < 1)
    return {"coverage": float(inside), "pulls": np.round(pulls, 3).tolist()}


PARTS = {
    "recursion": (recursion, {"events": 200_000, "nets": ("mlp",)}),
    "full": (full, {"events": 60_000}),
    "acceptance": (acceptance, {"events": 60_000}),
    "nuisance": (nuisance, {"events": 40_000}),
    "coverage": (coverage, {"events": 10_000, "experiments": 10, "bootstraps": 20}),
}
REDUCED = {
    "recursion": {"events": 50_000, "nets": ("quadratic",)},
    "full": {"events": 20_000},
    "acceptance": {"events": 40_000},
    "nuisance": {"events": 10_000},
    "coverage": {"events": 10_000, "experiments": 2, "bootstraps": 20},
}
SEEDS = {"recursion": 3, "full": 3, "acceptance": 3, "nuisance": 3, "coverage": 5}


def exact() -> dict[str, Any]:
    """Return the closed form of every recursion."""
    rows = {toy: gaussian_recursion(toy, iterations=max(ITERATIONS)) for toy in TOYS}
    return {toy: {str(k): rows[toy][k - 1].tolist() for k in ITERATIONS} for toy in TOYS}


def main() -> None:
    """Run the parts seed by seed; each is kept as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    parser.add_argument("--reduced", action="store_true", help="small samples, one seed")
    parser.add_argument("--write", action="store_true", help="write expected.json")
    parser.add_argument("--seeds", type=int, help="number of seeds, else that of the README")
    parser.add_argument("--keep", type=Path, help="file of the results so far, continued")
    options = parser.parse_args()
    difana.enable_x64()
    keep = options.keep
    found = json.loads(keep.read_text()) if keep and keep.exists() else {}
    found["exact"], found["exact_acceptance"] = exact(), exact_acceptance()
    for part in options.parts.split(","):
        function, settings = PARTS[part]
        rows = found.setdefault(part, {})
        for seed in range(1 if options.reduced else options.seeds or SEEDS[part]):
            if str(seed) in rows:
                continue
            begin = time.perf_counter()
            chosen = REDUCED[part] if options.reduced else settings
            rows[str(seed)] = {
                **function(seed=seed, **chosen),
                "seconds": round(time.perf_counter() - begin, 1),
            }
            print(part, seed, json.dumps(rows[str(seed)])[:2000], flush=True)
            if keep:
                keep.write_text(json.dumps(found))
    if options.write:
        text = json.dumps(found, indent=1)
        (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
