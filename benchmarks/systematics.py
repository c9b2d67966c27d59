"""Memory and time of a training step with many systematics: 100,000 events, 10 to 300 nuisances.

Every row runs in a process of its own, so that the peak memory is its own.

    python benchmarks/systematics.py [--events 100000] [--nuisances 10 100 300] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "systematics.md"
TEXT = """# Many systematics in the graph: memory and time of a training step

`{command}`; {machine}.

Expected limit with gradient and Adam update on {events} events in three samples (a third each):
half of the nuisances are exact transformations of all samples (every event passes the network twice
more for each), a third weight variations, the rest normalisations; simulation statistics; network
2 x 32 (float32), 10 bins. XLA flags of the commands (`difana/cli/_setup.py`). One process a row. Peak memory is that of the process, and what it held
before the first step (libraries and all events with their weights).

| nuisances | events of a tile | passes of the network per event | peak [MB] | before [MB] | first call [s] | CPU time [s] | step [s] |
|---|---|---|---|---|---|---|---|
{rows}

"all": everything in one pass, which keeps what every layer made of every event.
"""  # noqa: E501


def one(events: int, nuisances: int, chunk: int | None, steps: int) -> dict:
    """Measure one setting in this process."""
    import jax
    import jax.numpy as jnp
    import optax
    from training_step import many_nuisances, quick_compilation, stepper

    import difana
    from difana.losses import expected_limit
    from difana.nn import MLP

    quick_compilation()
    difana.enable_x64()
    samples = many_nuisances(jax.random.key(0), nuisances=nuisances, events=events // 3)
    jax.block_until_ready(jax.tree.leaves(samples))
    edges = jnp.linspace(-1.0, 1.0, 11)
    net = MLP(4, (32, 32), 1, key=jax.random.key(1))
    optimizer = optax.adam(1e-4)
    import equinox as eqx

    state = optimizer.init(eqx.filter(net, eqx.is_inexact_array))
    step = stepper(
        lambda net, s: expected_limit(net, s, edges=edges, bandwidth=0.1, chunk=chunk), optimizer
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = []
    cpu = time.process_time()
    for i in range(steps + 1):
        begin = time.perf_counter()
        net, state, value = jax.block_until_ready(step(net, state, samples))
        times.append(time.perf_counter() - begin)
        if i == 0:
            cpu = time.process_time() - cpu
    if not bool(jnp.isfinite(value)):
        raise RuntimeError("the loss is not finite: the measurement would mean nothing")
    return {
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "before": before,
        "first": times[0],
        "cpu": cpu,
        "step": min(times[1:]),
        "machine": f"jax {jax.__version__}, {jax.default_backend()}, {os.cpu_count()} cores",
    }


def main() -> None:
    """Measure each row in a fresh process, print, and write with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--nuisances", type=int, nargs="+", default=[10, 100, 300])
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        nuisances, chunk = options.one
        print(json.dumps(one(options.events, nuisances, chunk or None, options.steps)))
        return
    rows, machine = [], ""
    smallest = min(options.nuisances)
    for nuisances, chunk in [(smallest, 0), *((n, options.chunk) for n in options.nuisances)]:
        command = [sys.executable, __file__, "--events", str(options.events)]
        command += ["--steps", str(options.steps), "--one", str(nuisances), str(chunk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{nuisances} nuisances: {done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        machine = found["machine"]
        rows.append(
            f"| {nuisances} | {chunk or 'all'} | {1 + 2 * (nuisances // 2)} | {found['peak']:.0f} "
            f"| {found['before']:.0f} | {found['first']:.1f} | {found['cpu']:.1f} "
            f"| {found['step']:.1f} |"
        )
        print(rows[-1], flush=True)
    text = TEXT.format(
        command=f"python benchmarks/systematics.py --chunk {options.chunk} --write",
        machine=machine,
        events=options.events,
        rows="\n".join(rows),
    )
    print(text)
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
