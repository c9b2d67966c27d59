"""A jet tagger trained through the expected limit: constituents -> tagger -> histogram -> limit.

difana generate top --number 20000 --out top.parquet --no-shower-weights
difana generate qcd --number 20000 --out qcd.parquet --no-shower-weights
python paper_examples/end_to_end_tagger/run.py --jets FOLDER [--seeds 0 1 2] [--write]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import difana
from difana.analysis import (
    EfficientScore,
    TrainingOptions,
    best_bins,
    fit_efficient_score,
    log_objective,
    observe,
)
from difana.data import Events, Inputs, Normalisation, Sample, split
from difana.data.generate.pythia import detect, jet_systematics, read_generated
from difana.losses import ScorePlan, cross_entropy, expected_limit
from difana.nn import trainable
from difana.nn.taggers import PFN
from difana.train import Training, fit

HERE = Path(__file__).parent
YIELDS = {"top": 60.0, "qcd": 20_000.0}
PARTICLES, BINS, BATCH = 32, 8, 400


class Rematerialised(eqx.Module):
    """A network whose inner values are computed again on the way back: less memory."""

    net: Any

    def __call__(self, inputs: Inputs) -> jax.Array:
        """Return the outputs."""
        return jax.checkpoint(lambda net, x: net(x))(self.net, inputs)


def samples(folder: Path, number: int | None = None) -> list[Sample]:
    """Return measured jets with their systematic variations."""
    scale, _, _, tracking = jet_systematics(scale=0.05, tracking=0.03)
    found = []
    for i, name in enumerate(("top", "qcd")):
        path = folder / f"{name}.parquet"
        true = read_generated(path, columns=[], max_particles=200, entry_stop=number)
        seen = jax.jit(detect)(true.inputs, key=jax.random.key(i))
        order = jnp.argsort(-seen.particles[..., 0], axis=1)[:, :PARTICLES]
        x = jnp.take_along_axis(seen.particles, order[..., None], axis=1)
        x = x.at[..., 6:].set(jnp.tanh(x[..., 6:]))  # displacements have tails of metres
        mask = jnp.take_along_axis(seen.mask, order, axis=1)
        count = len(x)
        events = Events(
            jnp.zeros((count, 0), x.dtype), jnp.full(count, YIELDS[name] / count), x, mask
        )
        norm = () if name == "top" else (Normalisation(up=1.1, down=1 / 1.1, name="norm_qcd"),)
        free = ("mu",) if name == "top" else ()
        found.append(Sample(events, (scale, tracking, *norm), name=name, normfactors=free))
    return found


def tagger(key: jax.Array, outputs: int = 1) -> PFN:
    """Return a new tagger of momenta, charge, type and displacement."""
    return PFN(outputs, phi=(64, 64), hidden=(64,), coordinates="cylindrical", extras=4, key=key)


def judged(net: Any, parts: list[list[Sample]]) -> tuple[float, np.ndarray]:
    """Return the limit on test events in the bins that are best on the others, and these."""
    train, validation, test = parts
    score = log_objective(TrainingOptions(objective="expected_limit"))
    pair = [observe(net, train), observe(net, validation)]
    edges = best_bins(pair, score, bins=BINS, minimum_events=10.0, budget=60).edges
    limit, _ = expected_limit(net, test, edges=jnp.asarray(edges), bandwidth=None)
    return float(limit), np.asarray(edges)


def one(folder: Path, seed: int, *, steps: int, number: int | None = None) -> dict[str, Any]:
    """Train all ways with one seed; return their limits."""
    parts = [split(s, (0.5, 0.25, 0.25), seed=seed) for s in samples(folder, number)]
    train, validation, test = ([part[i] for part in parts] for i in range(3))
    key = jax.random.key(seed)
    found: dict[str, Any] = {"seed": seed}

    begin = time.perf_counter()
    net = Rematerialised(tagger(key))
    options = {"batch_size": BATCH, "key": key, "progress_bar": False}
    schedule = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    first = fit(cross_entropy, net, train, steps=steps, optimizer=schedule,
                trained=trainable(net), **options)  # fmt: skip
    found["cross_entropy"], edges = judged(first.trainable, [train, validation, test])
    found["cross_entropy_seconds"] = time.perf_counter() - begin

    begin = time.perf_counter()
    outputs = ScorePlan.of(train).outputs
    scores = fit_efficient_score(
        train, validation, key=key, start=Rematerialised(tagger(key, outputs)),
        training=Training(steps=steps, batch_size=BATCH, patience=None), progress_bar=False,
    )  # fmt: skip
    observable: EfficientScore = scores.observable
    found["efficient_score"], _ = judged(observable, [train, validation, test])
    found["efficient_score_seconds"] = time.perf_counter() - begin

    begin = time.perf_counter()
    inner = jnp.asarray(edges)
    width = float(np.median(np.diff(edges[1:-1])))

    def loss(net: Any, batch: Any, step: Any) -> Any:
        value, aux = expected_limit(net, batch, edges=inner, bandwidth=0.3 * width)
        return jnp.log(value), aux

    fine = fit(loss, first.trainable, train, steps=steps // 4, batch_size=4 * BATCH,
               optimizer=optax.adam(1e-4), trained=trainable(net), key=key,
               progress_bar=False)  # fmt: skip
    found["limit"], _ = judged(fine.trainable, [train, validation, test])
    found["limit_seconds"] = time.perf_counter() - begin
    found["seconds_a_step_of_the_limit"] = fine.seconds / (steps // 4)
    found["memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(found, flush=True)
    return found


def main() -> None:
    """Run all seeds and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jets", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--number", type=int, help="jets of a sample; all")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    difana.enable_x64()
    rows = [
        one(options.jets, seed, steps=options.steps, number=options.number)
        for seed in options.seeds
    ]
    summary = {"options": {"seeds": options.seeds, "steps": options.steps}, "runs": rows}
    for name in ("efficient_score", "limit"):
        gains = np.array([row["cross_entropy"] / row[name] - 1 for row in rows])
        error = float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else None
        summary[f"gain_{name}"] = [float(gains.mean()), error]
    print(json.dumps({k: v for k, v in summary.items() if k != "runs"}, indent=1))
    if options.write:
        (HERE / "expected.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
