"""Toys per second: difana and pyhf on the two-bin model, in one run.

A toy is one data set, drawn and fitted twice (freely and at the tested value). Both make toys with
and without signal; first call (with compilation) and warm ones apart.

    python benchmarks/toys.py [--number 10000] [--pyhf 100] [--repeat 5] [--write]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import pyhf

import difana
from difana.infer import toys
from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model

SIGNAL, BACKGROUND, UNCERTAINTY, DATA = [12.0, 11.0], [50.0, 52.0], [3.0, 7.0], [51.0, 48.0]
RESULT = Path(__file__).parent / "results" / "toys.md"
TEXT = """# Toys: difana against pyhf

`{command}`; {machine}, load {load:.1f} before the run.

Two bins with uncorrelated uncertainties, q-tilde at mu = 1, toys with and without signal; medians
of {repeat} runs.

| | toys | first call [s] | warm [s] | toys/s | CLs |
|---|---|---|---|---|---|
| pyhf {version}, numpy/scipy | 2 x {few} | {first_pyhf:.2f} | {pyhf:.2f} | {rate_pyhf:.0f} | {cls_pyhf:.3f} +- {err_pyhf:.3f} |
| difana | 2 x {number} | {first:.2f} | {ours:.3f} | {rate:.0f} | {cls:.4f} +- {err:.4f} |

Ratio of the rates: **{ratio:.0f}** (target: at least 300).
"""  # noqa: E501


def timed(call, repeat: int):
    """Return the times of the first and the other calls, and the last result."""
    times, result = [], None
    for _ in range(repeat + 1):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return times[0], statistics.median(times[1:]), result


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--pyhf", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    difana.enable_x64()
    load = os.getloadavg()[0]

    peer = pyhf.simplemodels.uncorrelated_background(SIGNAL, BACKGROUND, UNCERTAINTY)
    observed = [*DATA, *peer.config.auxdata]

    def run_pyhf():
        calculator = pyhf.infer.calculators.ToyCalculator(
            observed, peer, ntoys=args.pyhf, track_progress=False
        )
        pair = calculator.distributions(1.0)
        return [float(p) for p in calculator.pvalues(calculator.teststatistic(1.0), *pair)]

    signal = Template(SIGNAL, (NormFactor("mu"),), name="signal")
    bkg = Template(BACKGROUND, (ShapeSys(UNCERTAINTY, "unc"),), name="background")
    model = build_model([Channel((signal, bkg), name="SR")])
    data, key = model.data(np.array(DATA)), jax.random.key(0)
    first, ours, result = timed(
        lambda: toys(model, data, mu=1.0, number=args.number, key=key), args.repeat
    )
    first_pyhf, peer_time, (clsb, clb, cls) = timed(run_pyhf, args.repeat)
    rate, rate_pyhf = 2 * args.number / ours, 2 * args.pyhf / peer_time
    some = [max(p, 0.5 / args.pyhf) for p in (clsb, clb)]
    relative = np.sqrt(sum((1 - p) / p / args.pyhf for p in some))
    text = TEXT.format(
        command=f"python benchmarks/toys.py --number {args.number} --pyhf {args.pyhf}",
        machine=f"{len(os.sched_getaffinity(0))} CPU core(s), {jax.default_backend()}",
        load=load, repeat=args.repeat, version=pyhf.__version__, few=args.pyhf,
        first_pyhf=first_pyhf, pyhf=peer_time, rate_pyhf=rate_pyhf, cls_pyhf=cls,
        err_pyhf=cls * relative, number=args.number, first=first, ours=ours, rate=rate,
        cls=result.cls, err=result.cls_error, ratio=rate / rate_pyhf,
    )  # fmt: skip
    print(text)
    if args.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
