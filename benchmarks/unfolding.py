"""OmniFold: time of one unfolding, against the PyPI package omnifold, and cost of replicas.

The peer needs TensorFlow and so an environment of its own:

    python -m venv omnifold-env && omnifold-env/bin/pip install omnifold tensorflow-cpu
    python benchmarks/unfolding.py --peer omnifold-env/bin/python [--write]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from difana.data.generate import gaussian_levels, gaussian_recursion
from difana.nn import MLP
from difana.train import Training
from difana.unfold import Replicas, UnfoldingProblem, fit_omnifold, unfolding_problem

RESULT = Path(__file__).parent / "results" / "unfolding.md"
LAYERS, ITERATIONS = [64, 128, 64], 3
TEXT = """# OmniFold: time of one unfolding and cost of replicas

`{command}`; {machine}.

The minimal Gaussian toy, {events} simulated and {events} measured events, {iterations} iterations,
network {layers} (silu) in both steps, Adam, 20 % held out, {epochs} epochs a step without early
stopping. Warm: a second run in the same process, nothing compiled. The exact answer after
{iterations} iterations is mean {mean:.4f}, sd {sd:.4f}.

{table}

Both train on the same events in each epoch of step 1. In step 2 the peer stacks the events twice,
once for each class; difana gives each event both weights at once.

## Replicas

{replicas}

One compiled program; each replica has its own initial network and Poisson factors on data and
simulation; {replica_events} + {replica_events} events, batches of 128. Unit: one replica.
{devices} device(s): on a CPU,
`XLA_FLAGS=--xla_force_host_platform_device_count=2` in front of the command gives one a core.
"""


def problem_of(events: int) -> tuple[UnfoldingProblem, dict[str, np.ndarray]]:
    """Return the toy."""
    toy = gaussian_levels("minimal", key=jax.random.key(0), events=events)
    arrays = {name: np.asarray(getattr(toy, name)) for name in ("gen", "reco", "data")}
    return unfolding_problem(**arrays), arrays


def unfolding(settings: dict, *, bootstraps: int = 0, layers: Sequence[int] = LAYERS) -> Callable:
    """Return the fit with the settings of the peer."""
    net = lambda key: MLP(1, layers, activation="silu", key=key)  # noqa: E731
    training = Training(
        epochs=settings["epochs"], batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"], final_rate=1.0, patience=settings["epochs"],
    )  # fmt: skip
    return functools.partial(
        fit_omnifold, gen_net=net, reco_net=net, iterations=ITERATIONS, training=training,
        replicas=Replicas(bootstraps=bootstraps), progress_bar=False,
    )  # fmt: skip


def timed(
    fit: Callable, problem: UnfoldingProblem, runs: int, devices: Sequence | None = None
) -> tuple[list[float], list]:
    """Return seconds and moments of some runs with different keys."""
    seconds, found = [], []
    for run in range(runs):
        begin = time.perf_counter()
        key = jax.random.key(run)
        result = fit(problem, key=key, devices=devices)
        w = np.asarray(result.log_weights.block_until_ready()[-1, 0], float)
        seconds.append(time.perf_counter() - begin)
        z, w = np.asarray(problem.gen)[:, 0], np.exp(w)
        mean = np.average(z, weights=w)
        found.append([float(mean), float(np.sqrt(np.average((z - mean) ** 2, weights=w)))])
        print(f"difana run {run}: {seconds[-1]:.2f} s {found[-1]}", flush=True)
    return seconds, found


def peer(python: str, arrays: dict[str, np.ndarray], settings: dict) -> dict:
    """Run the peer in its environment; return its result, or the reason why there is none."""
    script = Path(__file__).with_name("unfolding_peer.py")
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("events.npz", "settings.json", "out.json")]
        np.savez(paths[0], **arrays)
        Path(paths[1]).write_text(json.dumps(settings))
        done = subprocess.run([python, str(script), *paths], text=True, check=False)
        if done.returncode:
            return {"reason": f"{script.name} failed with code {done.returncode}"}
        return json.loads(Path(paths[2]).read_text())


def main() -> None:
    """Measure, print, and write with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="python of an environment with omnifold and TensorFlow")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--replica-events", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="file of the results so far, continued")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    problem, arrays = problem_of(options.events)
    kept = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}

    def once(name: str, function):
        if name not in kept:
            kept[name] = function()
            if options.keep:
                options.keep.write_text(json.dumps(kept))
        return kept[name]

    rows = [
        "| batch | program | first run [s] | warm [s] | mean, sd of the warm run | ratio |",
        "|---|---|---|---|---|---|",
    ]
    lines = ["| network | replicas | warm [s] | units of one |", "|---|---|---|---|"]
    for size in options.batches:
        settings = {
            "runs": 2, "layers": LAYERS, "iterations": ITERATIONS, "epochs": options.epochs,
            "batch_size": size, "learning_rate": 1e-3, "patience": options.epochs,
        }  # fmt: skip
        seconds, found = once(f"one {size}", lambda s=settings: timed(unfolding(s), problem, 2))
        rows.append(
            f"| {size} | difana | {seconds[0]:.1f} | {seconds[1]:.2f} |"
            f" {found[1][0]:.4f}, {found[1][1]:.4f} | 1 |"
        )
        if options.peer is None:
            rows.append(f"| {size} | omnifold | | | not run: no --peer given | |")
        else:
            other = once(f"peer {size}", lambda s=settings: peer(options.peer, arrays, s))
            if "reason" in other:
                rows.append(f"| {size} | omnifold | | | not run: {other['reason']} | |")
            else:
                a, b = other["seconds"]
                mean, sd = other["moments"][1]
                rows.append(
                    f"| {size} | omnifold (TensorFlow {other['tensorflow']}) | {a:.1f} | {b:.2f} |"
                    f" {mean:.4f}, {sd:.4f} | {b / seconds[1]:.1f} |"
                )
    if options.replicas:
        few, _ = problem_of(options.replica_events)
        spread = jax.devices() if len(jax.devices()) > 1 else None
        for layers in ([16, 16], [64, 64], LAYERS):
            settings = {"epochs": options.epochs, "batch_size": 128, "learning_rate": 1e-3}
            spent = {
                n: once(
                    f"{n} replicas {layers}",
                    lambda n=n, k=layers, s=settings: timed(
                        unfolding(s, bootstraps=n - 1, layers=k), few, 2, spread if n > 1 else None
                    )[0],
                )[1]
                for n in (1, options.replicas)
            }
            lines += [
                f"| {'-'.join(map(str, layers))} | {n} | {t:.2f} | {t / spent[1]:.1f} |"
                for n, t in spent.items()
            ]
    mean, sd = gaussian_recursion("minimal", iterations=ITERATIONS)[-1]
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    text = TEXT.format(
        command=" ".join(["python benchmarks/unfolding.py", *sys.argv[1:]]),
        machine=f"jax {jax.__version__}, {jax.default_backend()}, {cores}",
        events=options.events, iterations=ITERATIONS, layers="-".join(map(str, LAYERS)),
        epochs=options.epochs, replica_events=options.replica_events, mean=mean, sd=sd,
        devices=len(jax.devices()), table="\n".join(rows), replicas="\n".join(lines),
    )  # fmt: skip
    print(text)
    if options.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
