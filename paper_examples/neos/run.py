"""The blob problem of NEOS: train on the expected CLs, or on cross-entropy, and compare.

python paper_examples/neos/run.py [--seeds 0 1 2] [--steps 400] [--bins 5] [--out result.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import difana
from difana.data import Sample, split
from difana.data.generate import blobs
from difana.infer import describe, hypotest, significance, trustworthy
from difana.likelihood import build_model, channel_from_events
from difana.losses import cross_entropy, expected_cls, sigma_of
from difana.nn import MLP
from difana.train import fit

METRICS = ("CLs", "p0", "sigma_mu")
LOSSES = ("CLs", "BCE")


def observable(net: Callable) -> Callable:
    """Return the network with its output squeezed into [0, 1]: what is binned."""
    return lambda x: jax.nn.sigmoid(net(x))


def problem(key: jax.Array, *, events: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return the blobs in float32, 75 % for training and 25 % for the test."""
    samples = blobs(key=key, events=events)
    parts = zip(*(split(sample, (0.75, 0.25)) for sample in samples), strict=True)
    train, test = (jax.tree.map(lambda x: x.astype(jnp.float32), part) for part in parts)
    return train, test


@eqx.filter_jit
def _metrics(
    net: Callable, samples: tuple[Sample, ...], edges: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array]:
    channel = channel_from_events(
        observable(net), samples, edges=edges, bandwidth=None, staterror=False
    )
    model = build_model([channel], poi="mu")
    sigma, status = sigma_of(model)
    cls, discovery = hypotest(model, 1.0), significance(model)
    values = {"CLs": cls.expected[2], "p0": discovery.expected_p, "sigma_mu": sigma}
    return values, status | cls.status | discovery.status


def evaluate(net: Callable, samples: tuple[Sample, ...], edges: jax.Array) -> dict[str, float]:
    """Return CLs, p0 and sigma(mu) with hard bins."""
    values, status = _metrics(net, samples, edges)
    if not trustworthy(status):
        raise RuntimeError(f"the numbers cannot be trusted: {describe(status)}")
    return {name: float(value) for name, value in values.items()}


def train(
    loss: str,
    samples: tuple[Sample, ...],
    *,
    edges: jax.Array,
    key: jax.Array,
    steps: int,
    batch_size: int,
    hidden: tuple[int, ...],
    learning_rate: float,
    bandwidth: float,
) -> Callable:
    """Train a network on one loss and return its last state: the test events choose nothing."""
    key_net, key_batch = jax.random.split(key)

    def on_cls(net, batch, progress):
        return expected_cls(
            observable(net), batch, edges=edges, bandwidth=bandwidth, staterror=False
        )

    def on_bce(net, batch, progress):
        return cross_entropy(net, batch)

    result = fit(
        {"CLs": on_cls, "BCE": on_bce}[loss],
        MLP(2, hidden, key=key_net),
        samples,
        steps=steps,
        batch_size=batch_size,
        optimizer=optax.adam(optax.cosine_decay_schedule(learning_rate, steps)),
        key=key_batch,
        select="last",
        progress_bar=False,
    )
    if result.status != "finished" or result.skipped:
        raise RuntimeError(f"{loss}: {result.status}, {result.skipped} steps skipped")
    return result.trainable


def run(
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 400,
    bins: int = 5,
    events: int = 10_000,
    batch_size: int = 2000,
    hidden: tuple[int, ...] = (128,) * 4,
    learning_rate: float = 2e-3,
    bandwidth: float = 0.09,
    losses: tuple[str, ...] = LOSSES,
) -> dict[str, dict[str, list[float]]]:
    """Train on each loss with each seed (of events, network and batches); return test metrics."""
    edges = jnp.linspace(0.0, 1.0, bins + 1)
    found: dict[str, dict[str, list[float]]] = {
        loss: {name: [] for name in (*METRICS, "seconds")} for loss in losses
    }
    for seed in seeds:
        key_data, key_train = jax.random.split(jax.random.key(seed))
        training, test = problem(key_data, events=events)
        for loss in losses:
            begin = time.perf_counter()
            net = train(
                loss,
                training,
                edges=edges,
                key=key_train,
                steps=steps,
                batch_size=batch_size,
                hidden=hidden,
                learning_rate=learning_rate,
                bandwidth=bandwidth,
            )
            seconds = time.perf_counter() - begin
            values = evaluate(net, test, edges) | {"seconds": seconds}
            for name, value in values.items():
                found[loss][name].append(value)
            numbers = "  ".join(f"{name} {values[name]:.3g}" for name in METRICS)
            print(f"seed {seed}  trained on {loss}: {numbers}  ({seconds:.0f} s)", flush=True)
    return found


def summary(found: dict[str, dict[str, list[float]]]) -> str:
    """Return the table of means and spreads over the seeds."""
    lines = ["trained on |       CLs |        p0 | sigma(mu)   (mean, then spread of the seeds)"]
    for loss, values in found.items():
        for label, function in ((loss, np.mean), ("", np.std)):
            numbers = " | ".join(f"{function(values[name]):9.2e}" for name in METRICS)
            lines.append(f"{label:>10} | {numbers}")
    return "\n".join(lines)


REDUCED = {
    "seeds": (0,),
    "steps": 100,
    "events": 4000,
    "batch_size": 500,
    "hidden": (32, 32),
    "learning_rate": 5e-3,
}
"""Options of the quick run of the tests."""


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--bins", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--bandwidth", type=float, default=0.09)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    parser.add_argument("--reduced", action="store_true", help="one small, quick training")
    arguments = vars(parser.parse_args())
    out, reduced = arguments.pop("out"), arguments.pop("reduced")
    difana.enable_x64()
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    options = (arguments | REDUCED) if reduced else arguments
    found = run(**options)
    print(summary(found))
    if out is not None:
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        out.write_text(json.dumps({"options": options, "values": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
