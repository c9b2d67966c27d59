"""One training step on the expected limit against one on cross-entropy with the same events.

Both steps send nominal and varied events through the same network in one pass, and both do the
full reverse pass and the Adam update. They are timed in turn, A B A B, so that other load on the
machine hits both. Also with 10 and 100 nuisances (half of them exact transformations of all
samples, the others weights and normalisations).

    python benchmarks/training_step.py [--steps 20] [--write]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import difana
from difana.data import Events, Normalisation, Sample, Transformation, WeightVariation
from difana.losses import cross_entropy, expected_limit
from difana.nn import MLP

HIDDEN, FEATURES, BINS, EVENTS = (128,) * 4, 4, 10, 2000
RESULT = Path(__file__).parent / "results" / "training_step.md"
TEXT = """# One training step: expected limit against cross-entropy

`{command}`; {machine}, load {load:.1f} before the run.

Network 4 x 128 (float32), 2000 events of each of 3 samples, 3 exact transformations on all of them,
1 weight variation, 1 normalisation, simulation statistics, 10 bins; statistics in float64. Both
steps send the same 21 x 2000 events through the network, with reverse pass and Adam update, and
are timed in turn. XLA flags of the commands (`difana/cli/_setup.py`), no compilation cache.

| step on | first call, with compilation [s] | its CPU time [s] | median [ms] | best [ms] |
|---|---|---|---|---|
{rows}

Ratio of the medians {median:.2f}, of the best {best:.2f} (target: at most 2; NEOS reports 3 to 4).
Target of the first call: below 15 s; its CPU time says what an idle machine would need at most.

## By the number of nuisances

{many}

The cross-entropy step sends the same events, variations included, through the same network in one
pass; the limit runs in one pass (chunk: none) or in tiles that its reverse pass computes again.
Targets: at most 1.5 at 10 nuisances and 3 at 100, first call at most 20 s.
"""


def shift(column: int):
    """Return an exact transformation that shifts one column."""
    return lambda x, alpha: x.at[:, column].add(0.2 * alpha)


def batch(key: jax.Array) -> tuple[Sample, ...]:
    """Return signal and two backgrounds with five nuisances: 21 x 2000 events for the network."""
    samples = []
    for i, (name, expected) in enumerate((("signal", 20.0), ("top", 100.0), ("fakes", 50.0))):
        x = jax.random.normal(jax.random.fold_in(key, i), (EVENTS, FEATURES), jnp.float32)
        w = jnp.full(EVENTS, expected / EVENTS, jnp.float32)
        events = Events(x + (0.7 if name == "signal" else -0.2 * i), w)
        variations = [
            Transformation(function=shift(column), name=f"scale_{column}") for column in range(3)
        ]
        if name == "top":
            ratio = jnp.exp(0.1 * x[:, 3])
            variations.append(WeightVariation(up=w * ratio, down=w / ratio, name="top_weight"))
        if name == "fakes":
            up, down = jnp.asarray(1.1), jnp.asarray(0.9)
            variations.append(Normalisation(up=up, down=down, name="fakes_norm"))
        factors = ("mu",) if name == "signal" else ()
        samples.append(Sample(events, tuple(variations), name=name, normfactors=factors))
    return tuple(samples)


def many_nuisances(key: jax.Array, *, nuisances: int, events: int) -> tuple[Sample, ...]:
    """Return three samples with half the nuisances transformations, a third weights."""
    shapes, weights = nuisances // 2, nuisances // 3
    samples = []
    for i, (name, expected) in enumerate((("signal", 20.0), ("top", 100.0), ("fakes", 50.0))):
        x = jax.random.normal(jax.random.fold_in(key, i), (events, FEATURES), jnp.float32)
        x = x + (0.7 if name == "signal" else -0.2 * i)
        w = jnp.full(events, expected / events, jnp.float32)
        variations: list = [
            Transformation(function=shifts(k, 0.2 / shapes**0.5), name=f"scale_{k}")
            for k in range(shapes)
        ]
        for k in range(weights):
            ratio = jnp.exp(0.1 / weights**0.5 * jnp.sin(x[:, k % FEATURES] + k))
            variations.append(WeightVariation(up=w * ratio, down=w / ratio, name=f"weight_{k}"))
        for k in range(nuisances - shapes - weights):
            up, down = jnp.asarray(1.02), jnp.asarray(0.98)
            variations.append(Normalisation(up=up, down=down, name=f"norm_{k}"))
        factors = ("mu",) if name == "signal" else ()
        own = Events(x, w)
        samples.append(Sample(own, tuple(variations), name=name, normfactors=factors))
    return tuple(samples)


def shifts(number: int, size: float):
    """Return one of many different exact transformations, the same for all samples."""
    return _SHIFTS.setdefault(
        (number, size), lambda x, alpha: x.at[:, number % FEATURES].add(size * alpha)
    )


_SHIFTS: dict = {}


def quick_compilation() -> None:
    """Compile as the commands do; to be called before the first computation."""
    from difana.cli._setup import faster_compilation

    os.environ["XLA_FLAGS"] = faster_compilation(os.environ.get("XLA_FLAGS", ""), jax.__version__)


def stepper(loss, optimizer: optax.GradientTransformation):
    """Return a jitted step ``(net, state, samples) -> (net, state, value)``."""

    @eqx.filter_jit(donate="none")
    def step(net, state, samples):
        leaves, static = eqx.partition(net, eqx.is_inexact_array)
        (_, aux), gradient = jax.value_and_grad(
            lambda own: loss(eqx.combine(own, static), samples), has_aux=True
        )(leaves)
        updates, state = optimizer.update(gradient, state, leaves)
        return eqx.combine(optax.apply_updates(leaves, updates), static), state, aux["value"]

    return step


def measure(
    steps: int, samples: tuple[Sample, ...] | None = None, *, chunk: int | None = None
) -> dict[str, dict[str, float]]:
    """Return the seconds of the first call and the median seconds of the later ones."""
    samples = batch(jax.random.key(0)) if samples is None else samples
    start = MLP(FEATURES, HIDDEN, key=jax.random.key(1))
    edges = jnp.linspace(-1.0, 1.0, BINS + 1)
    losses = {
        "cross-entropy": lambda net, s: cross_entropy(net, s, variations=True),
        "expected limit": lambda net, s: expected_limit(
            net, s, edges=edges, bandwidth=0.1, chunk=chunk
        ),
    }
    optimizer = optax.adam(1e-4)
    runs, found = {}, {}
    for name, loss in losses.items():
        state = optimizer.init(eqx.filter(start, eqx.is_inexact_array))
        step = stepper(loss, optimizer)
        begin, cpu = time.perf_counter(), time.process_time()
        net, state, value = jax.block_until_ready(step(start, state, samples))
        seconds = time.perf_counter() - begin
        found[name] = {"first": seconds, "cpu": time.process_time() - cpu}
        runs[name] = [step, net, state, []]
    for _ in range(steps):
        for own in runs.values():
            step, net, state, times = own
            begin = time.perf_counter()
            net, state, value = jax.block_until_ready(step(net, state, samples))
            times.append(time.perf_counter() - begin)
            own[1:3] = net, state
            if not bool(jnp.isfinite(value)):
                raise RuntimeError("a loss is not finite: the timing would mean nothing")
    for name, (*_, times) in runs.items():
        found[name] |= {"median": statistics.median(times), "best": min(times)}
    return found


def by_nuisances(steps: int) -> str:
    """Return the table of 10 and 100 nuisances."""
    rows = [
        (
            "| nuisances | events | chunk | cross-entropy, median [ms] | limit, median [ms] "
            "| ratio of medians | of the best | first call of the limit [s] | its CPU time [s] |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for nuisances, events, chunk in ((10, 2000, None), (10, 2000, 2000), (100, 500, None),
                                     (100, 500, 500)):  # fmt: skip
        samples = many_nuisances(jax.random.key(0), nuisances=nuisances, events=events)
        found = measure(steps, samples, chunk=chunk)
        bce, limit = found["cross-entropy"], found["expected limit"]
        rows.append(
            f"| {nuisances} | 3 x {events} | {chunk or 'none'} | {1e3 * bce['median']:.0f} "
            f"| {1e3 * limit['median']:.0f} | {limit['median'] / bce['median']:.2f} "
            f"| {limit['best'] / bce['best']:.2f} | {limit['first']:.1f} | {limit['cpu']:.1f} |"
        )
        print(rows[-1], flush=True)
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    quick_compilation()
    difana.enable_x64()
    load = os.getloadavg()[0]
    found = measure(options.steps)
    rows = [
        f"| {name} | {row['first']:.1f} | {row['cpu']:.1f} | {1e3 * row['median']:.1f} "
        f"| {1e3 * row['best']:.1f} |"
        for name, row in found.items()
    ]
    bce, limit = found["cross-entropy"], found["expected limit"]
    median, best = limit["median"] / bce["median"], limit["best"] / bce["best"]
    text = TEXT.format(
        command=f"python benchmarks/training_step.py --steps {options.steps} --write",
        machine=f"jax {jax.__version__}, {jax.default_backend()}, {os.cpu_count()} cores",
        load=load,
        rows="\n".join(rows),
        median=median,
        best=best,
        many=by_nuisances(max(3, options.steps // 3)),
    )
    print(text)
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
