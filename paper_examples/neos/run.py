"""The blob problem of NEOS: train on CLs, sigma(mu), p0, p0 and CLs, or cross-entropy; compare.

python paper_examples/neos/run.py [--bins 5 20] [--losses CLs p0 ...] [--out result.json]

All seeds of a training run in one program. Every number is from hard bins on test events.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import log_ndtr
from problem import METRICS, evaluate, exact_sigma, generate, score, signal_edges

import difana
from difana.data import Sample
from difana.hist import uniform_edges
from difana.losses import (
    cross_entropy,
    discovery,
    expected_cls,
    poi_uncertainty,
    weighted_sum,
)
from difana.nn import MLP
from difana.train import fit_ensemble, geometric

HERE = Path(__file__).parent
LOSSES = ("CLs", "sigma_mu", "p0", "p0+CLs", "BCE", "BCE, double sigmoid")
BCE_BINS = ("equal", "equal-signal")
KERNELS = {"fixed": (0.09, 0.09), "annealed": (0.09, 0.02)}
"""Bandwidths at the begin and at the end of a training: that of the thesis, and ours."""

PAPER = {
    5: {
        "CLs": (6.2e-7, 4.5e-3, 0.274),
        "sigma_mu": (5.8e-7, 4.4e-3, 0.259),
        "p0": (7.5e-6, 2.9e-9, 0.278),
        "p0+CLs": (1.1e-6, 6.7e-10, 0.276),
        "BCE, double sigmoid": (5.2e-5, 3.8e-2, 0.474),
    },
    20: {
        "CLs": (4.1e-7, 2.0e-3, 0.262),
        "sigma_mu": (3.6e-7, 1.1e-3, 0.256),
        "p0": (3.7e-6, 2.3e-9, 0.271),
        "p0+CLs": (6.9e-7, 7.5e-11, 0.265),
        "BCE, double sigmoid": (2.7e-5, 3.2e-2, 0.428),
    },
}
"""Final values of the thesis, equal fixed bins, read from its figures: CLs, p0, sigma(mu)."""

DEFAULTS = {
    "seeds": 7,
    "steps": 400,
    "events": 7500,
    "batch_size": 1000,
    "hidden": (48, 48),
    "activation": "silu",
    "learning_rate": 5e-3,
    "test_events": 100_000,
}
REDUCED = {
    "seeds": 2,
    "steps": 60,
    "events": 2000,
    "batch_size": 500,
    "hidden": (24, 24),
    "learning_rate": 1e-2,
    "test_events": 10_000,
}
"""Options of the quick run of the tests."""


def log_p0(*args, **options) -> tuple[jax.Array, dict]:
    """Return the logarithm of the expected p0."""
    value, aux = discovery(*args, **options)
    return log_ndtr(value), aux


LIKELIHOODS = {"CLs": expected_cls, "sigma_mu": poi_uncertainty, "p0": log_p0}
LIKELIHOODS["p0+CLs"] = weighted_sum({"p0": log_p0, "CLs": expected_cls}, {"p0": 1.0, "CLs": 1.0})


def loss_of(loss: str, *, bins: int, kernel: str) -> Callable:
    """Return the loss of a network: on the likelihood of soft bins, or cross-entropy."""
    edges = jnp.asarray(uniform_edges(0.0, 1.0, bins), jnp.float32)

    def on_likelihood(net, batch, step):
        bandwidth = geometric(*KERNELS[kernel])(step.progress)
        options = {"edges": edges, "bandwidth": bandwidth, "staterror": False}
        return LIKELIHOODS[loss](score(net), batch, **options)

    def on_cross_entropy(net, batch, step):
        # published: the output of the sigmoid is taken for a logit
        return cross_entropy(net if loss == "BCE" else score(net), batch)

    return on_cross_entropy if loss.startswith("BCE") else on_likelihood


def train(
    loss: str,
    samples: list[tuple[Sample, ...]],
    *,
    bins: int,
    kernel: str,
    seeds: int,
    steps: int,
    batch_size: int,
    hidden: tuple[int, ...],
    activation: str,
    learning_rate: float,
) -> tuple[Callable, ...]:
    """Train all seeds at once and return their last states: the test events choose nothing.

    A seed sets events, initial weights and batches.
    """
    keys = [jax.random.split(jax.random.key(seed)) for seed in range(seeds)]
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    result = fit_ensemble(
        loss_of(loss, bins=bins, kernel=kernel),
        [MLP(2, hidden, activation=activation, key=key) for key, _ in keys],
        samples,
        steps=steps,
        batch_size=batch_size,
        optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule)),
        keys=[key for _, key in keys],
        stage=f"{bins} bins, {loss}, {kernel}",
    )
    if not result.ok or result.skipped.any():
        raise RuntimeError(f"{loss}: {result.message}, {result.skipped} steps skipped")
    return result.members


def run(
    losses: tuple[str, ...] = LOSSES,
    *,
    bins: tuple[int, ...] = (5, 20),
    kernels: tuple[str, ...] = tuple(KERNELS),
    out: Path | None = None,
    **changes,
) -> dict:
    """Train on each loss and return test figures of all seeds; finished rows in ``out`` stay.

    Cross-entropy knows no bins: one training of it gives all its rows.
    """
    options = DEFAULTS | changes
    found = {"options": options, "rows": {}, "seconds": {}}
    if out is not None and out.is_file():
        found = json.loads(out.read_text(encoding="utf-8"))
        if found["options"] != json.loads(json.dumps(options)):
            raise SystemExit(f"{out} is of other options: choose another file")
    choices = {k: v for k, v in options.items() if k not in ("events", "test_events")}
    training = [generate(seed, events=options["events"]) for seed in range(options["seeds"])]
    test = generate(10_000, events=options["test_events"])

    def add(name: str, values: list[dict[str, float | None]], begin: float) -> None:
        found["rows"][name] = {metric: [v[metric] for v in values] for metric in METRICS}
        found["seconds"][name] = round(time.perf_counter() - begin, 1)
        print(row(name, found["rows"][name]), f"({found['seconds'][name]} s)", flush=True)
        if out is not None:
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    for loss in losses:
        begin = time.perf_counter()
        nets = None
        is_bce = loss.startswith("BCE")
        for number, kind in ((n, k) for n in bins for k in (BCE_BINS if is_bce else kernels)):
            name = f"{number} bins, {loss}, {kind}"
            if name in found["rows"]:
                continue
            if nets is None or not is_bce:
                begin = time.perf_counter()
                nets = train(loss, training, bins=number, kernel=kind, **choices)
            equal = jnp.asarray(uniform_edges(0.0, 1.0, number), jnp.float32)
            values = []
            for net, own in zip(nets, training, strict=True):
                edges = signal_edges(net, own, bins=number) if kind == "equal-signal" else equal
                values.append(evaluate(net, test, edges=edges))
            add(name, values, begin)
    return found


def quantiles(values: list[float | None]) -> list[float]:
    """Return the quantiles 16, 50 and 84 % over the seeds whose number can be trusted."""
    trusted = [value for value in values if value is not None]
    return np.quantile(trusted, [0.16, 0.5, 0.84]).tolist() if trusted else [np.nan] * 3


def row(name: str, values: dict[str, list[float | None]]) -> str:
    """Return medians, quantiles 16 and 84 % over the seeds, and the numbers of the thesis."""
    cells = []
    for metric in METRICS:
        low, middle, high = quantiles(values[metric])
        missing = values[metric].count(None)
        note = f", {missing} seeds without" if missing else ""
        cells.append(f"{middle:.3g} ({low:.3g} to {high:.3g}{note})")
    bins, _, rest = name.partition(" bins, ")
    loss, _, kind = rest.rpartition(", ")
    paper = PAPER.get(int(bins), {}).get(loss) if kind != "equal-signal" else None
    if paper is not None:
        cells.append("thesis " + " ".join(f"{value:.2g}" for value in paper))
    return " | ".join([name, *cells])


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="The blob problem of NEOS.")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    parser.add_argument("--bins", type=int, nargs="+", default=(5, 20))
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=tuple(KERNELS))
    parser.add_argument("--out", type=Path, help="JSON file of all numbers; finished rows stay")
    parser.add_argument("--write", action="store_true", help="write expected.json")
    parser.add_argument("--reduced", action="store_true", help="small, quick trainings")
    for name in ("seeds", "steps", "events", "batch_size", "test_events"):
        parser.add_argument("--" + name.replace("_", "-"), type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--activation")
    parser.add_argument("--hidden", type=int, nargs="+")
    arguments = vars(parser.parse_args())
    losses, bins, kernels = (tuple(arguments.pop(k)) for k in ("losses", "bins", "kernels"))
    out, write, reduced = (arguments.pop(name) for name in ("out", "write", "reduced"))
    difana.enable_x64()
    changes = REDUCED if reduced else {}
    changes = changes | {k: v for k, v in arguments.items() if v is not None}
    found = run(losses, bins=bins, kernels=kernels, out=out, **changes)
    print("\n".join(row(name, values) for name, values in found["rows"].items()))
    print(f"no observable can be better: sigma(mu) {exact_sigma():.4f}")
    if write:
        found["command"] = "python paper_examples/neos/run.py"
        found["medians"] = {
            name: {metric: float(f"{quantiles(v)[1]:.4g}") for metric, v in values.items()}
            for name, values in found["rows"].items()
        }
        text = json.dumps(found, indent=1) + "\n"
        (HERE / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
