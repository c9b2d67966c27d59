"""Cost of each objective: compilation and one step (loss and gradient), same events and network.

python benchmarks/objectives.py [--write]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import difana
from difana.data import Events, Normalisation, Sample, Transformation
from difana.infer import expected_limits
from difana.losses import (
    Pivot,
    Step,
    adversarial,
    augmented,
    aware,
    constrained,
    cross_entropy,
    discovery,
    expected_cls,
    expected_limit,
    generalised_variance,
    minimum_background,
    model_of,
    nuisance_width,
    poi_uncertainty,
    signal_grid,
    signal_injection,
    with_multipliers,
)
from difana.nn import MLP

OUT = Path(__file__).parent / "results" / "objectives.md"
EVENTS, BINS = 10_000, 10


def scale(features: jax.Array, alpha: jax.Array) -> jax.Array:
    return features * (1 + 0.03 * alpha)


def shift(features: jax.Array, alpha: jax.Array) -> jax.Array:
    return features + 0.1 * alpha


def samples(points: int) -> tuple[Sample, ...]:
    """Return signal points and a background with three nuisances."""
    moves = (
        Transformation(function=scale, name="scale"),
        Transformation(function=shift, name="shift"),
    )
    found = []
    keys = jax.random.split(jax.random.key(0), points + 1)
    for i, key in enumerate(keys):
        signal = i < points
        features = (1.0 + 0.2 * i if signal else 0.0) + jax.random.normal(key, (EVENTS, 4))
        total = 100.0 if signal else 20_000.0
        events = Events(features.astype(jnp.float32), jnp.full(EVENTS, total / EVENTS, jnp.float32))
        norm = (
            ()
            if signal
            else (Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.9), name="norm"),)
        )
        name, factors = (f"s{i}", ("mu",)) if signal else ("b", ())
        found.append(Sample(events, (*moves, *norm), name=name, normfactors=factors))
    return tuple(found)


def timed(function, state, batch) -> tuple[float, float]:
    """Return seconds of the first call and the best of five later ones."""
    weights, rest = eqx.partition(state, eqx.is_inexact_array)
    step = eqx.filter_jit(
        lambda w, batch: jax.value_and_grad(
            lambda w: function(eqx.combine(w, rest), batch)[0].astype(float)
        )(w)
    )
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        jax.block_until_ready(step(weights, batch))
        times.append(time.perf_counter() - begin)
    return times[0], min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    difana.enable_x64()
    batch, grid = samples(1), samples(5)
    key = jax.random.key(1)
    step = Step.at(key=key)
    net = MLP(4, (64, 64), key=key)
    wide = MLP(7, (64, 64), key=key)
    pair = Pivot(net, MLP(1, (32, 32), 5 * 7, activation="tanh", key=key))
    logits = np.asarray(net(batch[1].nominal.features))[:, 0]
    edges = jnp.asarray(np.quantile(logits, np.linspace(0, 1, BINS + 1)), jnp.float32)
    soft = {"edges": edges, "bandwidth": 0.1 * float(logits.std())}

    def conditions(*wanted):
        def subject(net, batch, step):
            return model_of(net, batch, **soft)

        def objective(model):
            return jnp.log(expected_limits(model, median_only=True).median)

        loss = constrained(objective, wanted, subject=subject)
        shapes = eqx.filter_eval_shape(lambda: subject(net, batch, step))
        state = with_multipliers(net, wanted, shapes)
        return lambda state, batch: loss(state, batch, step), state, batch

    few, narrow = minimum_background(10.0), nuisance_width(["scale", "shift"], 0.7)
    cases = {
        "cross_entropy": (lambda n, b: cross_entropy(n, b), net, batch),
        "cross_entropy, events at +-1, too": (
            lambda n, b: cross_entropy(n, b, variations=True), net, batch),
        "augmented": (lambda n, b: augmented(n, b, step), net, batch),
        "aware": (lambda n, b: aware(n, b, step), wide, batch),
        "adversarial (mixture)": (lambda n, b: adversarial(n, b, step), pair, batch),
        "poi_uncertainty": (lambda n, b: poi_uncertainty(n, b, **soft), net, batch),
        "generalised_variance of 3": (
            lambda n, b: generalised_variance(n, b, of=("mu", "scale", "shift"), **soft),
            net, batch),
        "expected_cls": (lambda n, b: expected_cls(n, b, **soft), net, batch),
        "expected_limit": (lambda n, b: expected_limit(n, b, **soft), net, batch),
        "discovery": (lambda n, b: discovery(n, b, **soft), net, batch),
        "signal_injection, limit": (
            lambda n, b: signal_injection(n, b, quantity="limit", **soft), net, batch),
        "signal_grid, 5 points": (lambda n, b: signal_grid(n, b, **soft), net, grid),
        "limit, >= 10 events a bin": conditions(few),
        "limit, both conditions": conditions(few, narrow),
    }  # fmt: skip
    lines = ["| objective | compilation [s] | step [ms] |", "|---|---|---|"]
    for name, case in cases.items():
        first, later = timed(*case)
        lines.append(f"| {name} | {first:.1f} | {1e3 * later:.1f} |")
        print(lines[-1], flush=True)
    if write:
        head = (
            f"Loss and gradient, {EVENTS} events of signal and background each, MLP 4-64-64-1 in "
            f"float32, {BINS} bins,\ntwo exact transformations of both samples, one normalisation, "
            "MC statistics; one core.\n\n"
        )
        OUT.write_text("# Cost of the objectives\n\n" + head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
