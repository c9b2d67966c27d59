"""Rotating Gaussians: ways to train under one nuisance, and the sigma(mu) each leaves.

python paper_examples/uncertainty_aware/run.py [--reduced] [--write] [--out result.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rotating import (
    NOMINAL,
    PRIOR,
    SPREAD,
    STEP,
    TRUTHS,
    VALUES,
    draw,
    gaussians,
    known_angle,
)
from sigma_bins import train_on_sigma

import difana
from difana.analysis import (
    NetworkOptions,
    nuisance_scan,
    profiled_interval,
    refined_scan,
    samples_at,
    train_adversarial,
    train_augmented,
    train_aware,
    train_cross_entropy,
)
from difana.data import Sample
from difana.infer import describe, trustworthy
from difana.metrics import roc_auc
from difana.nn import Parametrised
from difana.train import Training

HERE = Path(__file__).parent
METHODS = (
    "nominal",
    "augmented",
    "adversarial",
    "pivot",
    "aware",
    "limit",
    "exact",
    "limit-aware",
)
AWARE = ("aware", "limit-aware", "exact")  # told the angle
LEARNED = ("limit", "limit-aware")  # bins of their own
PUBLISHED = {"nominal": 0.97808, "shifted": 0.92355, "aware": 0.97828}


class Exact(eqx.Module):
    """The logarithm of the density ratio at a known angle: what an aware network should learn."""

    scale: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logit of events ``[x, y, alpha]``."""
        angle = NOMINAL + PRIOR * x[:, 2]
        along = x[:, 0] * jnp.cos(angle) + x[:, 1] * jnp.sin(angle)
        return (self.scale * along)[:, None]


class Bins(eqx.Module):
    """A network with one logit a bin as an observable: the number of the bin."""

    net: Callable

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the number of the largest output."""
        return jnp.argmax(self.net(x), axis=1, keepdims=True).astype(x.dtype)


def signal_edges(net: Callable, samples: tuple[Sample, ...], *, bins: int) -> np.ndarray:
    """Return bins of equal signal of the logit at the nominal angle, from training events."""
    x = np.sort(np.asarray(eqx.filter_jit(net)(samples[0].nominal.features))[:, 0])
    inner = np.quantile(x, np.arange(1, bins) / bins)
    return np.concatenate([[inner[0] - 50.0], inner, [inner[-1] + 50.0]])


def sigmoid_edges(*, bins: int) -> np.ndarray:
    """Return equal bins of the sigmoid, in units of the logit (those of the paper)."""
    p = np.arange(1, bins) / bins
    return np.concatenate([[-200.0], np.log(p / (1 - p)), [200.0]])


@eqx.filter_jit
def _scan(net: Callable, samples: tuple[Sample, ...], edges: jax.Array, *, is_aware: bool) -> Any:
    """Return the scans of all true angles, templates of one angle made once."""
    truths = jnp.asarray(list(TRUTHS.values()))

    def aware_net(value: jax.Array) -> Parametrised:
        return Parametrised(net, value[None])

    options = {"nuisance": "z", "values": VALUES, "edges": edges, "staterror": False}
    if not is_aware:
        scan = nuisance_scan(net, samples, **options)
        # the data of a fixed network are its templates at the truth
        middle = len(VALUES) // 2
        made = jax.vmap(lambda m: m.expected(m.init))(scan.models)
        data = jax.vmap(lambda k: jnp.broadcast_to(made[middle + k], scan.data.shape))(truths)
        return scan, data

    def one(truth: jax.Array) -> jax.Array:
        return nuisance_scan(aware_net, samples, per_value=True, truth=truth, **options).data

    scan = nuisance_scan(aware_net, samples, per_value=True, **options)
    return scan, jax.lax.map(one, STEP * truths)


def sigmas(
    net: Callable, samples: tuple[Sample, ...], edges: np.ndarray, *, is_aware: bool
) -> dict[str, float]:
    """Return the profiled sigma(mu) for each true angle, hard bins of test events."""
    scan, data = _scan(net, samples, jnp.asarray(edges, jnp.float32), is_aware=is_aware)
    found = {}
    for name, own in zip(TRUTHS, data, strict=True):
        exact = refined_scan(eqx.tree_at(lambda s: s.data, scan, own), factor=20)
        result = profiled_interval(exact)
        if not trustworthy(result.status):
            raise RuntimeError(f"truth {name}: {describe(result.status)}")
        found[name] = float(result.sigma)
    return found


def auc(net: Callable, samples: tuple[Sample, ...], angle: float) -> float:
    """Return the AUC at an angle."""
    moved = samples_at(samples, "z", (angle - NOMINAL) / PRIOR)
    score = eqx.filter_jit(lambda net, x: net(x)[:, 0])
    x = [np.asarray(score(net, s.nominal.features), float) for s in moved]
    labels = np.concatenate([np.ones(len(x[0])), np.zeros(len(x[1]))])
    return float(roc_auc(np.concatenate(x), labels))


def train_one(
    method: str,
    samples: tuple[Sample, ...],
    *,
    key: jax.Array,
    members: int,
    steps: int,
    batch_size: int,
    hidden: tuple[int, ...],
    bins: int,
) -> list[Callable]:
    """Train one method with all seeds at once."""
    shared: dict[str, Any] = {"network": NetworkOptions(hidden), "members": members}
    if method == "exact":
        return [Exact(jnp.asarray(2 / SPREAD**2, jnp.float32))]
    training = Training(steps=steps, batch_size=batch_size, learning_rate=3e-3, final_rate=0.0)
    shared["training"] = training
    if method in LEARNED:
        told = method in AWARE
        return train_on_sigma(samples, key=key, bins=bins, is_aware=told, **shared)
    opponent = NetworkOptions(hidden, "tanh")
    game = {**shared, "draw": draw, "adversary_network": opponent}
    calls: dict[str, Callable] = {
        "nominal": lambda: train_cross_entropy(samples, key=key, **shared),
        "augmented": lambda: train_augmented(samples, key=key, draw=draw, **shared),
        "adversarial": lambda: train_adversarial(samples, key=key, adversary="regressor", **game),
        "pivot": lambda: train_adversarial(samples, key=key, adversary="mixture", **game),
        "aware": lambda: train_aware(samples, key=key, draw=draw, **shared),
    }
    return [baseline.net for baseline in calls[method]()]


def measure(
    method: str,
    nets: list[Callable],
    samples: dict[str, tuple[Sample, ...]],
    *,
    bins: int,
    binnings: tuple[str, ...],
) -> dict[str, Any]:
    """Return AUC and sigma(mu) of every seed on the test events."""
    is_aware = method in AWARE
    found: dict[str, Any] = {"auc": {}, "sigma": {}}
    for net in nets:
        middle = Parametrised(net, jnp.zeros(1)) if is_aware else net
        edges = {
            "signal": lambda middle=middle: signal_edges(middle, samples["train"], bins=bins),
            "sigmoid": lambda: sigmoid_edges(bins=bins),
            "learned": lambda: np.arange(bins + 1) - 0.5,
        }
        for name, angle in (("nominal", NOMINAL), ("shifted", np.pi / 2)):
            if method in LEARNED:
                continue  # bins have no order
            alpha = jnp.asarray([(angle - NOMINAL) / PRIOR])
            own = Parametrised(net, alpha) if is_aware else net
            found["auc"].setdefault(name, []).append(auc(own, samples["auc"], angle))
        for binning in ("learned",) if method in LEARNED else binnings:
            observable = Bins(net) if method in LEARNED else net
            values = sigmas(observable, samples["test"], edges[binning](), is_aware=is_aware)
            for name, value in values.items():
                found["sigma"].setdefault(binning, {}).setdefault(name, []).append(value)
            numbers = "  ".join(f"{name}: {value:.4f}" for name, value in values.items())
            print(f"{method:>12} {binning:>8}  {numbers}", flush=True)
    return found


def run(
    *,
    seed: int = 0,
    members: int = 5,
    steps: int = 2000,
    batch_size: int = 500,
    events: int = 100_000,
    test_events: int = 40_000,
    hidden: tuple[int, ...] = (64, 64),
    bins: int = 10,
    methods: tuple[str, ...] = METHODS,
    binnings: tuple[str, ...] = ("signal", "sigmoid"),
    keep: Path | None = None,
) -> dict[str, Any]:
    """Train all methods, measure every seed; with ``keep`` a killed run goes on where it was."""
    keys = jax.random.split(jax.random.key(seed), 4)
    samples = {
        "train": gaussians(keys[0], events=events),
        "test": gaussians(keys[1], events=test_events),
        "auc": gaussians(keys[2], events=2 * events),
    }
    sigma, best = known_angle()
    found: dict[str, Any] = {"known_angle": sigma, "best_auc": best, "methods": {}}
    if keep is not None and keep.exists():
        found = json.loads(keep.read_text())
    for method in methods:
        if method in found["methods"]:
            continue
        begin = time.perf_counter()
        nets = train_one(
            method,
            samples["train"],
            key=jax.random.fold_in(keys[3], METHODS.index(method)),
            members=members,
            steps=steps,
            batch_size=batch_size,
            hidden=hidden,
            bins=bins,
        )
        seconds = time.perf_counter() - begin
        print(f"{method}: trained in {seconds:.0f} s", flush=True)
        rows = measure(method, nets, samples, bins=bins, binnings=binnings)
        found["methods"][method] = {**rows, "train_seconds": seconds}
        if keep is not None:
            keep.write_text(json.dumps(found) + "\n")
    return found


def summary(found: dict[str, Any]) -> str:
    """Return the tables of means and spreads over the seeds."""

    def show(values: list[float], digits: int) -> str:
        return f"{np.mean(values):.{digits}f} +- {np.std(values):.{digits}f}"

    lines = ["AUC           nominal            shifted (z = pi/2)"]
    for method, rows in found["methods"].items():
        numbers = [show(values, 5) for values in rows["auc"].values()]
        lines.append(f"{method:>12}  " + "  ".join(numbers))
    lines.append(f"sigma(mu), known angle without bins: {found['known_angle']:.4f}")
    lines.append(" " * 22 + "  ".join(f"{name:>15}" for name in TRUTHS))
    for method, rows in found["methods"].items():
        for binning, values in rows["sigma"].items():
            numbers = [show(row, 4) for row in values.values()]
            lines.append(f"{method:>12} {binning:>8} " + "  ".join(numbers))
    return "\n".join(lines)


REDUCED: dict[str, Any] = {
    "members": 1,
    "steps": 300,
    "batch_size": 300,
    "events": 10_000,
    "test_events": 10_000,
    "hidden": (16,),
    "methods": ("nominal", "aware"),
    "binnings": ("signal",),
}
"""Options of the quick run of the tests."""


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", type=int, default=5, help="seeds, trained at once")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    parser.add_argument("--keep", type=Path, help="results so far, to go on after a kill")
    parser.add_argument("--reduced", action="store_true", help="one small, quick run")
    parser.add_argument("--write", action="store_true", help="write expected.json")
    arguments = vars(parser.parse_args())
    names = ("out", "reduced", "write", "keep")
    out, reduced, write, keep = (arguments.pop(name) for name in names)
    difana.enable_x64()
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    options |= REDUCED if reduced else {}
    begin = time.perf_counter()
    found = run(**options, keep=keep)
    print(summary(found))
    print(f"{time.perf_counter() - begin:.0f} s in all")
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    text = json.dumps({"options": options, "published": PUBLISHED, **found}, indent=1) + "\n"
    for path in (out, HERE / "expected.json" if write else None):
        if path is not None:
            path.write_text(text)


if __name__ == "__main__":
    main()
