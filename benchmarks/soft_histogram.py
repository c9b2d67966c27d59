"""Soft histogram: time and peak memory of difana, relaxed.hist and boost-histogram in one run.

Every line is measured in a process of its own: compile, drop what the compiler left, reset the
peak of the resident memory, then run. Memory counts the inputs, so 1.0 means nothing is added.

    python benchmarks/soft_histogram.py [--events 1e6 1e7] [--write]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BINS, LOW, HIGH = 50, -3.0, 3.0
BANDWIDTH = 0.5 * (HIGH - LOW) / BINS
RUNS = 3
RESULT = Path(__file__).parent / "results" / "soft_histogram.md"
LINES = [
    ("difana", "forward"),
    ("difana", "forward + d/dx"),
    ("difana", "forward + all gradients"),
    ("relaxed", "forward"),
    ("relaxed", "forward + d/dx"),
    ("boost-histogram", "forward"),
]


def memory(field: str, table: str = "/proc/self/status") -> float:
    """Return one line of a table of the kernel in bytes."""
    for line in Path(table).read_text().splitlines():
        if line.startswith(field):
            return 1024.0 * int(line.split()[1])
    raise RuntimeError(f"no {field} in {table}")


def make(system: str, mode: str, events: int):
    """Return a compile step, the call, and the size of its inputs in bytes."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal(events, dtype=np.float32)
    weights = rng.random(events, dtype=np.float32) + np.float32(0.5)
    if system == "boost-histogram":
        import boost_histogram as bh

        def fill():
            h = bh.Histogram(bh.axis.Regular(BINS, LOW, HIGH), storage=bh.storage.Weight())
            return h.fill(x, weight=weights)

        return (lambda: None), fill, x.nbytes + weights.nbytes

    import jax
    import jax.numpy as jnp

    edges = jnp.linspace(LOW, HIGH, BINS + 1, dtype=jnp.float32)
    bandwidth = jnp.float32(BANDWIDTH)
    probe = jnp.asarray(rng.standard_normal(BINS, dtype=np.float32))
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    if system == "relaxed":
        from difana.hist import relaxed_histogram

        def yields(x, edges, bandwidth):
            return relaxed_histogram(x, edges, bandwidth=bandwidth, flow="fold")

        inputs = (x, edges, bandwidth)
    else:
        from difana.hist import soft_histogram

        def yields(x, weights, edges, bandwidth):
            return soft_histogram(x, weights, edges, bandwidth=bandwidth).contents

        inputs = (x, weights, edges, bandwidth)

    def loss(*inputs):
        return probe @ yields(*inputs)

    which = tuple(range(len(inputs))) if mode == "forward + all gradients" else 0
    function = jax.jit(yields if mode == "forward" else jax.value_and_grad(loss, argnums=which))
    compiled = []

    def compile_once():
        compiled.append(function.lower(*inputs).compile())

    def call():
        return jax.block_until_ready(compiled[0](*inputs))

    return compile_once, call, sum(leaf.nbytes for leaf in inputs[: len(inputs) - 2])


def worker(system: str, mode: str, events: int) -> dict[str, float]:
    """Measure one line in this process."""
    prepare, call, size = make(system, mode, events)
    start = time.perf_counter()
    prepare()
    compile_time = time.perf_counter() - start
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    peak = memory("VmHWM") - before
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {
        "first": compile_time + first,
        "warm": statistics.median(times),
        "peak": peak + size,
        "ratio": (peak + size) / size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        system, mode, events = options.worker
        print(json.dumps(worker(system, mode, int(float(events)))))
        return
    columns = ("events", "", "system", "first call (s)", "warm (s)", "relative to difana")
    columns += ("peak (MB)", "peak / inputs")
    rows = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    print("\n".join(rows))
    ratios = {}
    for events in sorted(options.events):
        warm = {}
        for system, mode in sorted(LINES, key=lambda line: line[1]):
            needed = events * ratios.get((system, mode), 0)
            if needed > 0.7 * memory("MemAvailable", "/proc/meminfo"):
                found = f"not run: needs {needed / 1e9:.0f} GB"
                rows.append(f"| {events:.0e} | {mode} | {system} | {found} |||||")
                print(rows[-1], flush=True)
                continue
            command = [sys.executable, __file__, "--worker", system, mode, str(events)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                found = f"| {events:.0e} | {mode} | {system} | failed: exit {done.returncode} |||||"
            else:
                line = json.loads(done.stdout.splitlines()[-1])
                warm[system, mode] = line["warm"]
                ratios[system, mode] = line["peak"] / events
                relative = line["warm"] / warm["difana", mode]
                found = (
                    f"| {events:.0e} | {mode} | {system} | {line['first']:.2f} | {line['warm']:.3f}"
                    f" | {relative:.2f} | {line['peak'] / 1e6:.0f} | {line['ratio']:.2f} |"
                )
            rows.append(found)
            print(found, flush=True)
    if options.write:
        import jax

        head = (
            f"# Soft histogram, {BINS} bins, float32, bandwidth half a bin\n\n"
            f"`python benchmarks/soft_histogram.py --write`, {os.cpu_count()} CPU cores, jax"
            f" {jax.__version__}, load {os.getloadavg()[0]:.1f} at the end. Warm: median of {RUNS}."
            " relaxed.hist takes no weights, so its inputs are half as large; boost-histogram is"
            " hard and has no gradient. The peak counts inputs and outputs.\n\n"
        )
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
