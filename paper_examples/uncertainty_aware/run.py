"""Rotating Gaussians: six ways to train under one nuisance, and the sigma(mu) each leaves.

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
import optax
from scipy.stats import norm

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
from difana.data import Events, Sample, Transformation
from difana.infer import describe, trustworthy
from difana.losses import inferno
from difana.metrics import roc_auc
from difana.nn import MLP, Parametrised
from difana.train import fit_ensemble

HERE = Path(__file__).parent
NOMINAL, PRIOR, SPREAD = np.pi / 4, 0.5, 0.7
SIGNAL, BACKGROUND = 500.0, 50_000.0
STEP = np.pi / 4 / PRIOR / 16  # of the nuisance, in standard deviations
VALUES = STEP * np.arange(-24, 25)
TRUTHS = {"0": -16, "pi/8": -8, "pi/4": 0, "3pi/8": 8, "pi/2": 16}  # z, and steps from nominal
METHODS = ("nominal", "augmented", "adversarial", "pivot", "aware", "limit", "exact")
PUBLISHED = {"nominal": 0.97808, "shifted": 0.92355, "aware": 0.97828}


def rotate(features: jax.Array, alpha: jax.Array) -> jax.Array:
    """Turn the plane by ``alpha`` standard deviations of the angle."""
    cosine, sine = jnp.cos(PRIOR * alpha), jnp.sin(PRIOR * alpha)
    x, y = features[:, 0], features[:, 1]
    return jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)


def gaussians(key: jax.Array, *, events: int) -> tuple[Sample, Sample]:
    """Return signal and background at the nominal angle, opposite to each other."""
    centre = jnp.asarray([np.cos(NOMINAL), np.sin(NOMINAL)])
    turn = (Transformation(function=rotate, name="z"),)
    found = []
    for name, sign, total, own in zip(
        ("signal", "background"), (1, -1), (SIGNAL, BACKGROUND), jax.random.split(key), strict=True
    ):
        features = sign * centre + SPREAD * jax.random.normal(own, (events, 2))
        drawn = Events(
            features.astype(jnp.float32),
            jnp.full(events, total / events, jnp.float32),
            columns=("x", "y"),
        )
        factors = ("mu",) if sign > 0 else ()
        found.append(Sample(drawn, turn, name=name, normfactors=factors))
    return tuple(found)


def known_angle() -> tuple[float, float]:
    """Return sigma(mu) without bins and with a known angle, for mu = 1; and the best AUC."""
    x = np.linspace(-6, 6, 20_001)
    s = SIGNAL * norm.pdf(x, 1.0, SPREAD)
    b = BACKGROUND * norm.pdf(x, -1.0, SPREAD)
    information = np.sum(s**2 / (s + b)) * (x[1] - x[0])
    return float(information**-0.5), float(norm.cdf(np.sqrt(2) / SPREAD))


def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return angles spread evenly over the tested range and a bit beyond."""
    return jax.random.uniform(key, shape, minval=VALUES[4], maxval=VALUES[-5])


def train_on_sigma(
    samples: tuple[Sample, ...],
    *,
    key: jax.Array,
    network: NetworkOptions,
    bins: int,
    steps: int,
    batch_size: int,
    members: int,
    rate: float = 5e-3,
) -> list[Callable]:
    """Train bins on the mean ln sigma(mu) over true angles, each with exact derivatives."""
    truths = jnp.asarray([STEP * k for k in TRUTHS.values()], jnp.float32)

    def loss(net: Any, batch: Any, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        temperature = 1.0 * 0.1**progress

        def one(truth: jax.Array) -> jax.Array:
            moved = samples_at(batch, "z", truth, keep=True)
            return inferno(net, moved, temperature=temperature, staterror=False)[0]

        sigmas = jax.lax.map(one, truths)
        return jnp.mean(jnp.log(sigmas)), {"sigma": jnp.mean(sigmas)}

    keys = jax.random.split(key, (members, 2))
    starts = [MLP(2, network.hidden, bins, activation="tanh", key=k[0]) for k in keys]
    schedule = optax.cosine_decay_schedule(rate, steps)
    found = fit_ensemble(
        loss,
        starts,
        samples,
        steps=steps,
        batch_size=batch_size,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule)),
        keys=[k[1] for k in keys],
        progress_bar=False,
    )
    return list(found.members)


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
    if method == "limit":
        # five true angles and the derivative by the angle: a step costs as much as twenty others
        fewer = {"bins": bins, "steps": max(steps // 7, 1), "batch_size": batch_size}
        return train_on_sigma(samples, key=key, **fewer, **shared)
    shared |= {"steps": steps, "batch_size": batch_size, "rate": 3e-3}
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
    is_aware = method in ("aware", "exact")
    found: dict[str, Any] = {"auc": {}, "sigma": {}}
    for net in nets:
        middle = Parametrised(net, jnp.zeros(1)) if is_aware else net
        edges = {
            "signal": lambda middle=middle: signal_edges(middle, samples["train"], bins=bins),
            "sigmoid": lambda: sigmoid_edges(bins=bins),
            "learned": lambda: np.arange(bins + 1) - 0.5,
        }
        for name, angle in (("nominal", NOMINAL), ("shifted", np.pi / 2)):
            if method == "limit":
                continue  # bins have no order
            alpha = jnp.asarray([(angle - NOMINAL) / PRIOR])
            own = Parametrised(net, alpha) if is_aware else net
            found["auc"].setdefault(name, []).append(auc(own, samples["auc"], angle))
        for binning in binnings if method != "limit" else ("learned",):
            observable = Bins(net) if method == "limit" else net
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
