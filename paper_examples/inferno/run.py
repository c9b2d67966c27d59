"""INFERNO: train bins on the expected uncertainty of the signal, with nuisances, and compare.

python paper_examples/inferno/run.py [--models B2 classifier ...] [--seeds 10] [--out result.json]

All seeds of a model are trained in one program. Every number is from hard bins on test events.
"B2" starts from random weights, "B2-score" from bins of the efficient score (see score.py).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from analytic import asimov, efficient_score, likelihood_width, lloyd_edges, optimal_classifier
from problem import BENCHMARKS, Binned, generate, select, templates, uncertainty
from score import log_ratios, score_bins, shapes

import difana
from difana.data import Sample
from difana.hist import equal_yield_edges
from difana.losses import cross_entropy, inferno
from difana.nn import MLP, Standardised, trainable
from difana.train import fit_ensemble, geometric

HERE = Path(__file__).parent
PAPER = {
    "classifier": (14.99, 18.94, 23.94, 21.54, 26.71),
    "B0": (15.51, 18.34, 23.24, 21.38, 26.38),
    "B1": (15.80, 16.79, 21.41, 20.29, 24.26),
    "B2": (15.71, 16.87, 16.95, 16.88, 18.67),
    "B3": (15.70, 16.91, 16.97, 16.89, 18.69),
    "B4": (15.71, 16.89, 16.95, 16.88, 18.68),
    "optimal classifier": (14.97, 19.12, 24.93, 22.13, 27.98),
    "analytic likelihood": (14.71, 15.52, 15.65, 15.62, 16.89),
}
"""Table 1 of the paper: medians of sigma(s) for benchmarks 0 to 4."""

DEFAULTS = {
    "seeds": 10,
    "steps": 500,
    "batch_size": 2000,
    "bins": 10,
    "hidden": (64, 64),
    "activation": "silu",
    "learning_rate": 1e-2,
    "temperatures": (1.0, 0.1),
    "nuisances": "interpolated",
    "train_events": 100_000,
    "test_events": 200_000,
    "from_score": {
        "steps": 40,
        "batch_size": 10_000,
        "learning_rate": 5e-4,
        "temperatures": (0.1, 0.05),
        "classifier_steps": 250,
    },
}
REDUCED = {
    "seeds": 2,
    "steps": 60,
    "batch_size": 1000,
    "hidden": (24, 24),
    "learning_rate": 2e-2,
    "train_events": 10_000,
    "test_events": 20_000,
    "from_score": {
        "steps": 10,
        "batch_size": 4000,
        "learning_rate": 5e-4,
        "temperatures": (0.1, 0.05),
        "classifier_steps": 150,
    },
}
"""Options of the quick run of the tests."""


def loss_of(model: str, *, temperatures: tuple[float, float], nuisances: str) -> Callable:
    """Return the loss of a model: cross-entropy, or INFERNO for one benchmark."""
    if model == "classifier":
        return lambda net, batch, step: cross_entropy(net, batch)
    temperature = geometric(*temperatures)

    def loss(net, batch, step):
        return inferno(
            net,
            batch,
            temperature=temperature(step.progress),
            nuisances=nuisances,
            parameters=BENCHMARKS[model].parameters,
            staterror=False,
        )

    return loss


def networks(
    samples: Sequence[Sample], *, outputs: int, seeds: int, hidden: tuple[int, ...], activation: str
) -> list[Standardised]:
    """Return untrained networks; a seed sets the initial weights, as in the paper."""
    features = np.concatenate([sample.nominal.features for sample in samples])
    return [
        Standardised.fit(
            MLP(3, hidden, outputs, activation=activation, key=jax.random.key(seed)), features
        )
        for seed in range(seeds)
    ]


def train(
    loss: Callable,
    nets: Sequence[Callable],
    samples: Sequence[Sample],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    stage: str,
) -> tuple[tuple[Callable, ...], float]:
    """Train all seeds at once, on the same events and batches; return them and the seconds."""
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    result = fit_ensemble(
        loss,
        nets,
        samples,
        steps=steps,
        batch_size=batch_size,
        optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule)),
        key=jax.random.key(5000),
        trained=trainable(nets[0]),
        stage=stage,
    )
    if not result.ok or result.skipped.any():
        raise RuntimeError(f"{stage}: {result.message}, {result.skipped} steps skipped")
    return result.members, result.seconds


def train_model(
    model: str, samples: tuple[Sample, ...], options: dict
) -> tuple[dict[str, tuple[Callable, ...]], float]:
    """Return the networks behind each row of a model, and the seconds of training."""
    own = {name: options[name] for name in ("steps", "batch_size", "learning_rate")}
    temperatures = options["temperatures"]
    shape = {name: options[name] for name in ("seeds", "hidden", "activation")}
    benchmark, _, start = model.partition("-")
    kept = samples if model == "classifier" else select(samples, benchmark)
    seconds = 0.0
    if start == "score":
        later = options["from_score"]
        names = shapes(benchmark)
        nets, seconds = train(
            lambda net, batch, step: log_ratios(net, batch, names),
            networks(samples, outputs=1 + len(names), **shape),
            kept,
            **own | {"steps": later["classifier_steps"]},
            stage=f"{benchmark}, score",
        )
        nets = [score_bins(net, kept, benchmark, bins=options["bins"]) for net in nets]
        own = {name: later[name] for name in own}
        temperatures = later["temperatures"]
    else:
        outputs = 1 if model == "classifier" else options["bins"]
        nets = networks(samples, outputs=outputs, **shape)
    before = {f"{model}, before": tuple(nets)} if start else {}
    loss = loss_of(benchmark, temperatures=temperatures, nuisances=options["nuisances"])
    found, more = train(loss, nets, kept, **own, stage=model)
    return {**before, model: found}, seconds + more


def evaluate(nets: tuple[Callable, ...], test: tuple[Sample, ...]) -> dict[str, list[float]]:
    """Return sigma(s) of every network in every benchmark, from hard bins."""
    yields = templates(nets, test)
    return {
        benchmark: [round(uncertainty(own, benchmark), 4) for own in yields]
        for benchmark in BENCHMARKS
    }


def logit_edges(bins: int) -> jax.Array:
    """Return the edges of bins that are uniform in the sigmoid."""
    return jax.scipy.special.logit(jnp.linspace(0.0, 1.0, bins + 1))


def classifier_rows(nets: tuple[Callable, ...], samples: tuple[Sample, ...], test) -> dict:
    """Return the classifier in 10 uniform bins (as published) and in 10 bins of equal signal."""
    signal = samples[0].nominal.features[:20_000]
    equal = [equal_yield_edges(np.asarray(net(signal)[:, 0]), None, 10) for net in nets]
    pairs = zip(nets, equal, strict=True)
    return {
        "classifier": evaluate(tuple(Binned(net, logit_edges(10)) for net in nets), test),
        "classifier, equal-signal bins": evaluate(
            tuple(Binned(net, jnp.asarray(edges)) for net, edges in pairs), test
        ),
    }


def analytic_rows(test: tuple[Sample, ...], *, events: int) -> dict[str, dict[str, list[float]]]:
    """Return what the exact densities give, binned and unbinned."""
    x, weights = asimov(jax.random.key(1001), events=events)
    rows = {"analytic likelihood": {}, "efficient score, 10 bins": {}}
    for benchmark in BENCHMARKS:
        width = likelihood_width(benchmark, x, weights)
        rows["analytic likelihood"][benchmark] = [round(width, 4)]
        score = efficient_score(benchmark, x, weights)
        edges = lloyd_edges(np.asarray(score(x)[:, 0]), np.asarray(weights), bins=10)
        yields = templates([Binned(score, jnp.asarray(edges))], test)
        rows["efficient score, 10 bins"][benchmark] = [round(uncertainty(yields[0], benchmark), 4)]
    for bins in (10, 50):
        name = "optimal classifier" if bins == 10 else f"optimal classifier, {bins} bins"
        rows[name] = evaluate((Binned(optimal_classifier, logit_edges(bins)),), test)
    return rows


def run(models: tuple[str, ...], *, out: Path | None = None, **changes) -> dict:
    """Train and evaluate the models that are not yet in the file ``out``; return all rows."""
    options = DEFAULTS | changes
    found = {"options": options, "rows": {}, "measured": {}}
    if out is not None and out.is_file():
        found = json.loads(out.read_text(encoding="utf-8"))
        if found["options"] != json.loads(json.dumps(options)):
            raise SystemExit(f"{out} is of other options: choose another file")
    sizes = {name: options[f"{name}_events"] for name in ("train", "test")}
    training, test = (
        generate(jax.random.key(seed), events=sizes[name])
        for name, seed in (("train", 1000), ("test", 2000))
    )
    for model in models:
        if model in found["rows"] or (
            model == "analytic" and "analytic likelihood" in found["rows"]
        ):
            continue
        begin = time.perf_counter()
        measured = {}
        if model == "analytic":
            rows = analytic_rows(test, events=sizes["test"])
        else:
            nets, seconds = train_model(model, training, options)
            measured = {"seconds": round(seconds, 1)}
            if model == "classifier":
                rows = classifier_rows(nets[model], training, test)
            else:
                rows = {name: evaluate(own, test) for name, own in nets.items()}
        found["rows"] |= rows
        found["measured"][model] = measured | {"total": round(time.perf_counter() - begin, 1)}
        if out is not None:
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(table(rows), f"{model}: {found['measured'][model]}", sep="\n", flush=True)
    return found


def table(rows: dict) -> str:
    """Return the rows: the median over the seeds, distances to the quantiles 16 % and 84 %."""
    lines = []
    for name, values in rows.items():
        cells = []
        for benchmark in BENCHMARKS:
            if benchmark not in values:
                continue
            low, middle, high = np.quantile(values[benchmark], [0.16, 0.5, 0.84])
            cells.append(f"{middle:.2f} +{high - middle:.2f} -{middle - low:.2f}")
        lines.append(" | ".join([name, *cells]))
        if name in PAPER:
            lines.append(" | ".join(["   paper", *(f"{x:.2f}" for x in PAPER[name])]))
    return "\n".join(lines)


def main() -> None:
    """Read the command line and run."""
    known = (*BENCHMARKS, *(f"{b}-score" for b in BENCHMARKS), "classifier", "analytic")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=known, default=known)
    parser.add_argument("--out", type=Path, help="JSON file of all numbers; finished models stay")
    parser.add_argument("--write", action="store_true", help="write expected.json from --out")
    parser.add_argument("--reduced", action="store_true", help="two small, quick trainings")
    for name in ("seeds", "steps", "bins", "batch_size"):
        parser.add_argument("--" + name.replace("_", "-"), type=int)
    parser.add_argument("--activation")
    parser.add_argument("--nuisances", choices=("exact", "interpolated"))
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--temperatures", type=float, nargs=2)
    arguments = vars(parser.parse_args())
    models, out = tuple(arguments.pop("models")), arguments.pop("out")
    write, reduced = arguments.pop("write"), arguments.pop("reduced")
    difana.enable_x64()
    changes = REDUCED if reduced else {}
    changes = changes | {k: v for k, v in arguments.items() if v is not None}
    found = run(models, out=out, **changes)
    print(table(found["rows"]))
    if write:
        found["command"] = "python paper_examples/inferno/run.py"
        found["medians"] = {
            name: {b: round(float(np.median(v)), 3) for b, v in values.items()}
            for name, values in found["rows"].items()
        }
        text = json.dumps(found, indent=1) + "\n"
        (HERE / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
