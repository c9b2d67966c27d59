"""Bias and variance of the expected limit and its gradient when a step sees a mini-batch.

A network and its bin edges descend on the limit of the full sample. At every step of that path the
limit and its gradient are also estimated from a batch, in four ways, and compared with those of
the full sample at the same step:

- plain: the batch, rescaled to the full yields and variances;
- running: value from an exponential mean of the yields over past batches, gradient of the batch;
- full values: yields and variances of the full sample, gradient of the batch;
- accumulated: all events in chunks.

    python benchmarks/batch_bias.py [--steps 40] [--write]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import difana
from difana.data import BatchSampler, Events, Normalisation, Sample, Transformation
from difana.hist import TrainableEdges, equal_yield_edges
from difana.infer import expected_limits
from difana.likelihood import build_model, channel_from_sums, template_sums
from difana.losses import RunningSums, cross_entropy, running_sums
from difana.nn import MLP

EVENTS, BINS, DECAY, CHUNK = 16_000, 8, 0.9, 4000
SIZES = (250, 1000, 4000)
YIELDS = {"signal": 30.0, "top": 400.0, "fakes": 200.0}
RESULT = Path(__file__).parent / "results" / "batch_bias.md"
TEXT = """# Mini-batches: bias and variance of the expected limit and of its gradient

`{command}`; {machine}, {seconds:.0f} s.

Three samples of {events} events, signal {signal:g} on {background:g}, two exact transformations, a
normalisation, network 2 x 32 (pretrained with cross-entropy), {bins} trainable bins, bandwidth 0.3
of the median bin. Along {steps} Adam steps on the limit of the full sample, every estimate is
compared with the full sample at the same state. Loss: the limit relative to that of the full
sample, mean and standard deviation over the steps. Gradient (network and edges): cosine and ratio
of norms of the *mean* estimate and the mean of the full sample (bias), cosine of a *single*
estimate and the full one (noise). Running: decay {decay}.

{tables}

A cosine of mean gradients below 1 is bias only as far as {steps} steps resolve it: the noise of
the mean is that of a single estimate over sqrt({steps}).
"""


def shift(column: int):
    """Return an exact transformation that shifts one column."""
    return lambda x, alpha: x.at[:, column].add(0.15 * alpha)


def make_samples(key: jax.Array) -> tuple[Sample, ...]:
    """Return a signal and two backgrounds in three features."""
    samples = []
    for i, (name, total) in enumerate(YIELDS.items()):
        own = jax.random.fold_in(key, i)
        centre = {"signal": 0.9, "top": -0.3, "fakes": -0.6}[name]
        x = centre + jax.random.normal(own, (EVENTS, 3), jnp.float32)
        weights = jax.random.uniform(jax.random.fold_in(own, 1), (EVENTS,), jnp.float32, 0.5, 1.5)
        events = Events(x, weights * total / jnp.sum(weights))
        variations = [
            Transformation(function=shift(column), name=f"scale_{column}") for column in range(2)
        ]
        if name == "fakes":
            up, down = jnp.asarray(1.2), jnp.asarray(0.8)
            variations.append(Normalisation(up=up, down=down, name="fakes_norm"))
        factors = ("mu",) if name == "signal" else ()
        samples.append(Sample(events, tuple(variations), name=name, normfactors=factors))
    return tuple(samples)


def pretrained(samples: tuple[Sample, ...]) -> MLP:
    """Return a network of cross-entropy."""
    net = MLP(3, (32, 32), 1, key=jax.random.key(1))
    draw = BatchSampler(samples, key=jax.random.key(2), size=1000)
    optimizer = optax.adam(3e-3)
    moving, static = eqx.partition(net, eqx.is_inexact_array)
    state = optimizer.init(moving)

    @eqx.filter_jit
    def step(moving, state, batch):
        slopes = jax.grad(lambda own: cross_entropy(eqx.combine(own, static), batch)[0])(moving)
        updates, state = optimizer.update(slopes, state, moving)
        return optax.apply_updates(moving, updates), state

    for i in range(300):
        moving, state = step(moving, state, draw(i))
    return eqx.combine(moving, static)


class Study:
    """One network, all estimates; compiled once for each setting."""

    def __init__(self, *, staterror: bool) -> None:
        self.samples = make_samples(jax.random.key(0))
        net = pretrained(self.samples)
        scores = np.asarray(net(self.samples[0].nominal.features)[:, 0], np.float64)
        every = np.concatenate([np.asarray(net(s.nominal.features)[:, 0]) for s in self.samples])
        edges = equal_yield_edges(scores, None, BINS, low=every.min() - 1, high=every.max() + 1)
        self.width = 0.3 * float(np.median(np.diff(edges[1:-1])))
        start = {"net": net, "edges": TrainableEdges.from_edges(jnp.asarray(edges, jnp.float32))}
        self.start, self.static = eqx.partition(start, eqx.is_inexact_array)
        self.staterror = staterror
        self.sums = eqx.filter_jit(self._sums)
        self.pull = eqx.filter_jit(self._pull)
        self.limits = jax.jit(jax.vmap(jax.value_and_grad(self._limit)))

    def _sums(self, leaves, batch, chunk):
        state = eqx.combine(leaves, self.static)
        edges = state["edges"].edges
        return template_sums(state["net"], batch, edges=edges, bandwidth=self.width, chunk=chunk)

    def _pull(self, leaves, batch, chunk, slopes):
        """Return the gradient of each row of slopes d(limit)/d(sums)."""
        _, pull = jax.vjp(lambda own: self._sums(own, batch, chunk), leaves)
        return jax.lax.map(lambda row: pull(row)[0], slopes)

    def _limit(self, sums):
        channel = channel_from_sums(sums, self.samples, staterror=self.staterror)
        return expected_limits(build_model([channel]), median_only=True).median

    def run(self, steps: int, warm: int) -> dict[tuple[int, str], tuple[list, list]]:
        """Walk along the path of the full sample and note every estimate."""
        draws = {n: BatchSampler(self.samples, key=jax.random.key(n), size=n) for n in SIZES}
        optimizer = optax.adam(1e-3)
        leaves, state = self.start, optimizer.init(self.start)
        like = jax.eval_shape(lambda x: self._sums(x, self.samples, CHUNK), leaves)
        memory = {n: RunningSums.start(like) for n in SIZES}
        found: dict[tuple[int, str], tuple[list, list]] = {}

        def note(size, kind, value, gradient):
            rows = found.setdefault((size, kind), ([], []))
            rows[0].append(float(value))
            rows[1].append(np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)]))

        def part(tree, index):
            return jax.tree.map(lambda x: x[index], tree)

        for step in range(steps + warm):
            rows = [self.sums(leaves, self.samples, CHUNK)]
            for n in SIZES:
                batch = self.sums(leaves, draws[n](step), None)
                running, memory[n] = running_sums(memory[n], batch, decay=DECAY)
                rows += [batch, running]
            values, slopes = self.limits(jax.tree.map(lambda *x: jnp.stack(x), *rows))
            gradient = part(self.pull(leaves, self.samples, CHUNK, part(slopes, slice(1))), 0)
            if step >= warm:
                note(0, "full", values[0], gradient)
                for i, n in enumerate(SIZES):
                    # of the batch, of the running mean, of the full sample
                    index = np.array([1 + 2 * i, 2 + 2 * i, 0])
                    found_here = self.pull(leaves, draws[n](step), None, part(slopes, index))
                    for k, kind in enumerate(("plain", "running", "full values")):
                        note(n, kind, values[index[k]], part(found_here, k))
            updates, state = optimizer.update(gradient, state, leaves)
            leaves = optax.apply_updates(leaves, updates)
        return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def table(found: dict, *, staterror: bool) -> str:
    """Return the rows of one setting."""
    reference = np.array(found[0, "full"][0])
    slopes = np.array(found[0, "full"][1])
    rows = [
        (
            f"**{'With' if staterror else 'Without'} MC statistics in the loss** (limit of all "
            f"events {reference[0]:.4f} to {reference[-1]:.4f})\n"
        ),
        (
            "| batch | estimate | loss: bias [%] | its spread [%] | mean gradient: cosine "
            "| norm ratio | single gradient: cosine |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for (n, kind), (values, gradients) in sorted(found.items(), key=lambda row: -row[0][0]):
        if kind == "full":
            continue
        ratio = np.array(values) / reference - 1
        mean, own = np.mean(gradients, axis=0), np.mean(slopes, axis=0)
        single = np.mean([cosine(a, b) for a, b in zip(gradients, slopes, strict=True)])
        rows.append(
            f"| {n} | {kind} | {100 * ratio.mean():+.2f} | {100 * ratio.std():.2f} "
            f"| {cosine(mean, own):.3f} | {np.linalg.norm(mean) / np.linalg.norm(own):.2f} "
            f"| {single:.3f} |"
        )
    rows.append(f"| {EVENTS} | accumulated | 0 | 0 | 1 | 1 | 1 |")
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm", type=int, default=15, help="steps before the first estimate")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    difana.enable_x64()
    begin = time.perf_counter()
    tables = [
        table(Study(staterror=staterror).run(options.steps, options.warm), staterror=staterror)
        for staterror in (True, False)
    ]
    text = TEXT.format(
        command=f"python benchmarks/batch_bias.py --steps {options.steps} --write",
        machine=f"jax {jax.__version__}, {jax.default_backend()}, {os.cpu_count()} cores",
        seconds=time.perf_counter() - begin,
        events=EVENTS,
        signal=YIELDS["signal"],
        background=YIELDS["top"] + YIELDS["fakes"],
        bins=BINS,
        steps=options.steps,
        decay=DECAY,
        tables="\n\n".join(tables),
    )
    print(text)
    if options.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
