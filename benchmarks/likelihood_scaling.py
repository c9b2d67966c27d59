"""Compile time, speed and memory against the numbers of bins and nuisances.

    python benchmarks/likelihood_scaling.py [--write]

Three samples; every nuisance shifts all bins of one of them. A fresh process for each line. Times
are CPU times, which other users of the machine change little.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "likelihood_scaling.md"
SIZES = [(10, 10), (100, 10), (1000, 10), (10_000, 10), (100, 100), (1000, 100), (10_000, 100),
         (100, 1000), (1000, 1000), (10_000, 1000)]  # fmt: skip


def measure(bins: int, nuisances: int) -> dict[str, float]:
    """Time nll and gradient, and a fit where that is not too long."""
    from difana.cli import _setup

    _setup.start(fits=True)  # as the commands do
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    from difana.infer.fit import profile
    from difana.likelihood import Channel, HistoSys, NormFactor, Template, build_model

    rng = np.random.default_rng(0)
    yields = rng.uniform(50, 150, (3, bins))
    shifts: list[list] = [[], [], []]
    for i in range(nuisances):
        sample = 1 + i % 2
        up, down = 1 + rng.normal(0, 0.02, (2, bins))
        shifts[sample].append(HistoSys(yields[sample] * up, yields[sample] * down, f"n{i}"))
    samples = [
        Template(0.1 * yields[0], (NormFactor("mu"),), name="signal"),
        Template(yields[1], tuple(shifts[1]), name="first"),
        Template(yields[2], tuple(shifts[2]), name="second"),
    ]
    model = build_model([Channel(tuple(samples), name="SR")])
    data = model.data(rng.poisson(yields.sum(axis=0)).astype(float))
    params = model.init

    def timed(function, *arguments) -> tuple[float, float]:
        lowered = jax.jit(function).lower(*arguments)
        start = time.process_time()
        compiled = lowered.compile()
        first = time.process_time() - start
        times: list[float] = []
        while len(times) < 3 or (len(times) < 50 and sum(times) < 1):
            start = time.process_time()
            jax.block_until_ready(compiled(*arguments))
            times.append(time.process_time() - start)
        return first, statistics.median(times)

    leaves, tree = jax.tree.flatten(eqx.filter(model, eqx.is_array))
    rest = eqx.filter(model, eqx.is_array, inverse=True)

    def of(flat):
        return eqx.combine(jax.tree.unflatten(tree, flat), rest)

    compile_time, speed = timed(
        lambda flat, theta, d: jax.value_and_grad(of(flat).half_deviance)(theta, d),
        leaves,
        params,
        data,
    )
    found = {"compile": compile_time, "gradient": speed}
    if bins * nuisances <= 100_000:
        start = jnp.asarray(model.init)
        fit_compile, fit_speed = timed(
            lambda flat, d: profile(of(flat), d, start, held=of(flat).fixed).value, leaves, data
        )
        found |= {"fit_compile": fit_compile, "fit": fit_speed}
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    lines = [
        "# Size of a likelihood",
        "",
        (
            f"`python benchmarks/likelihood_scaling.py`; {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f} before the run. CPU times, medians of warm calls; memory is "
            "that of the process, JAX included."
        ),
        "",
        (
            "| bins | nuisances | compile nll + gradient [s] | nll + gradient [ms] | ns an entry | "
            "compile fit [s] | fit [ms] | memory [MiB] |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for bins, nuisances in SIZES:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", str(bins), str(nuisances)],
            env={**os.environ, "DIFANA_CACHE": "off"},
            capture_output=True,
            text=True,
            check=True,
        )
        m = json.loads(done.stdout.splitlines()[-1])
        fit = f"{m['fit_compile']:.2f} | {1e3 * m['fit']:.1f}" if "fit" in m else "- | -"
        lines.append(
            f"| {bins} | {nuisances} | {m['compile']:.2f} | {1e3 * m['gradient']:.3f} | "
            f"{1e9 * m['gradient'] / (bins * nuisances):.1f} | {fit} | {m['memory']:.0f} |"
        )
        print(lines[-1], flush=True)
    if args.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
