"""Hypothesis tests and limits on published likelihoods: difana and pyhf in one run.

    python benchmarks/likelihood.py [--data PATH] [--skip-minuit | --skip-pyhf] [--write]

Times are those of fresh processes: the first call counts from reading the JSON (imports done) to
the numbers, with an empty and with a filled compilation cache; warm calls are medians. Derivatives
below 1e-5 of the largest are compared with that: differences of a limit are no better than that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE / "results" / "likelihood.md"
POINTS = {"sbottom": "sbottom_1300_205_60", "1Lbb": "C1N2_Wh_hbb_700_400"}


def files(name: str, data: Path) -> tuple[Path, dict]:
    """Return the workspace file and how its signal is patched in."""
    if name == "sbottom":
        patch = data / "sbottom-RegionA" / f"patch.{POINTS[name]}.json"
        return data / "sbottom-RegionA" / "BkgOnly.json", {"patches": (patch,)}
    return data / "1Lbb" / "workspace_v1.json.gz", {"point": POINTS[name]}


def patched(name: str, data: Path) -> dict:
    """Return the workspace with its signal."""
    from difana.likelihood import read_patchset, read_workspace

    path, how = files(name, data)
    if "patches" in how:
        return read_workspace(path, patches=how["patches"])
    patchset = read_patchset(data / "1Lbb" / "patchsets_v1.json.gz")
    return patchset.apply(read_workspace(path), how["point"])


def repeated(call, number: int) -> float:
    """Return the median time of some calls."""
    times = []
    for _ in range(number):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def differences(function, size: float) -> float:
    """Return the derivative at 0 by central differences of the most consistent step."""
    found = []
    for relative in (1e-4, 1e-3, 1e-2, 1e-1):
        h = relative * size
        near, far = function(h) - function(-h), function(2 * h) - function(-2 * h)
        second, fourth = near / (2 * h), (8 * near - far) / (12 * h)
        found.append((abs(second - fourth), fourth))
    return min(found)[1]


def ours(name: str, data: Path, task: str) -> dict:
    """Time difana in this process."""
    from difana.cli import _setup

    _setup.start(fits=True)
    import equinox as eqx
    import jax
    import numpy as np

    from difana.infer import expected_limits, hypotest, upper_limit
    from difana.likelihood import from_workspace

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.block_until_ready(jax.numpy.zeros(1))  # starting the backend is not compilation
    if task == "scan":
        return scan(data)
    start = time.perf_counter()
    model, observed = from_workspace(patched(name, data))
    read = time.perf_counter() - start
    test = eqx.filter_jit(lambda m, d: hypotest(m, d, mu=1.0))
    limit = eqx.filter_jit(lambda m, d: upper_limit(m, d))
    call = {"test": test, "limit": limit}.get(task)
    if call is not None:
        result = jax.block_until_ready(call(model, observed))
        first = time.perf_counter() - start
        numbers = [float(result.observed), *np.asarray(result.expected).tolist()]
        number = 50 if task == "test" else 20
        warm = repeated(lambda: jax.block_until_ready(call(model, observed)), number)
        return {"read": read, "first": first, "warm": warm, "numbers": numbers}
    # the gradient of the median expected limit in every number of the model
    median = eqx.filter_jit(lambda m: expected_limits(m, median_only=True).median)
    both = eqx.filter_jit(
        eqx.filter_value_and_grad(lambda m: expected_limits(m, median_only=True).median)
    )
    _, gradient = jax.block_until_ready(both(model))
    value = jax.block_until_ready(median(model))
    plain = repeated(lambda: jax.block_until_ready(median(model)), 20)
    slope = repeated(lambda: jax.block_until_ready(both(model)), 20)
    rng, worst = np.random.default_rng(0), 0.0
    leaves = ("nominal", "histosys_hi", "histosys_lo", "normsys_hi", "normsys_lo", "staterror")
    sizes = [getattr(model, leaf).size for leaf in leaves]
    scale = max(float(np.abs(getattr(gradient, leaf)).max()) for leaf in leaves)
    for _ in range(20):
        leaf = leaves[rng.choice(len(leaves), p=np.array(sizes) / sum(sizes))]
        place = int(rng.integers(getattr(model, leaf).size))
        now = float(getattr(model, leaf)[place])

        def moved(by: float, leaf: str = leaf, place: int = place) -> float:
            change = getattr(model, leaf).at[place].add(by)
            return float(median(eqx.tree_at(lambda m: getattr(m, leaf), model, change)))

        slopes = differences(moved, max(abs(now), 1e-2))
        own = float(getattr(gradient, leaf)[place])
        worst = max(worst, abs(own - slopes) / max(abs(slopes), 1e-5 * scale))
    return {"limit": plain, "both": slope, "worst": worst, "median": float(value)}


def scan(data: Path) -> dict:
    """Time CLs of all 125 points of 1Lbb, from reading the files on."""
    import equinox as eqx
    import jax

    from difana.infer import hypotest
    from difana.likelihood import read_patchset, signal_points

    folder = data / "1Lbb"
    start = time.perf_counter()
    stacked = signal_points(
        folder / "workspace_v1.json.gz", read_patchset(folder / "patchsets_v1.json.gz")
    )
    read = time.perf_counter() - start
    call = eqx.filter_jit(
        lambda m, d: jax.lax.map(lambda one: hypotest(one[0], one[1], mu=1.0), (m, d))
    )
    result = jax.block_until_ready(call(stacked.model, stacked.data))
    first = time.perf_counter() - start
    warm = repeated(lambda: jax.block_until_ready(call(stacked.model, stacked.data)), 3)
    excluded = int((result.observed < 0.05).sum())
    return {"read": read, "first": first, "warm": warm, "points": len(stacked.names), "n": excluded}


def theirs(name: str, data: Path, setting: str, calls: int) -> dict:
    """Time pyhf in this process."""
    import pyhf

    warnings.simplefilter("ignore")
    backend, optimiser = setting.split("/")
    pyhf.set_backend(backend, optimiser)
    start = time.perf_counter()
    workspace = pyhf.Workspace(patched(name, data))
    codes = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    model = workspace.model(modifier_settings=codes)
    observed = workspace.data(model)

    def test() -> list[float]:
        value, band = pyhf.infer.hypotest(
            1.0, observed, model, test_stat="qtilde", return_expected_set=True
        )
        return [float(value), *map(float, band)]

    numbers = test()
    first = time.perf_counter() - start
    warm = repeated(test, calls) if calls else float("nan")
    return {"first": first, "warm": warm, "numbers": numbers}


def in_process(*words: str, cache: str = "off") -> dict:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", *words]
    environment = {**os.environ, "DIFANA_CACHE": cache, "JAX_ENABLE_COMPILATION_CACHE": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/likelihoods")
    parser.add_argument(
        "--skip-minuit", action="store_true", help="pyhf numpy/minuit takes minutes"
    )
    parser.add_argument("--skip-pyhf", action="store_true", help="difana only")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, task, calls = args.measure
        peer = "/" in task
        found = theirs(name, args.data, task, int(calls)) if peer else ours(name, args.data, task)
        print(json.dumps(found))
        return
    lines = [
        "# Likelihoods: difana against pyhf",
        "",
        (
            f"`python benchmarks/likelihood.py`; {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f} before the run. Seconds; observed and five expected values."
        ),
        "",
        "| likelihood | task | who | first call | first, cache filled | warm | pyhf/difana, warm |",
        "|---|---|---|---|---|---|---|",
    ]

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    print("\n".join(lines))
    settings = ["numpy/scipy", "jax/scipy"] + ([] if args.skip_minuit else ["numpy/minuit"])
    settings = [] if args.skip_pyhf else settings
    for name in POINTS:
        with tempfile.TemporaryDirectory() as cache:
            cold = in_process(name, "test", "0", cache=cache)
            filled = in_process(name, "test", "0", cache=cache)
        warm = cold["warm"]
        say(
            f"| {name} | CLs | difana | {cold['first']:.2f} | {filled['first']:.2f} | "
            f"{warm:.4f} | |"
        )
        for setting in settings:
            slow = setting == "numpy/minuit"
            peer = in_process(name, setting, "0" if slow else "1")
            later = peer["first"] if slow else peer["warm"]
            worst = max(
                abs(a / b - 1) for a, b in zip(cold["numbers"], peer["numbers"], strict=True)
            )
            say(
                f"| {name} | CLs | pyhf {setting} | {peer['first']:.2f} | | {later:.2f} | "
                f"{later / warm:.0f} (largest relative difference {worst:.1e}) |"
            )
        with tempfile.TemporaryDirectory() as cache:
            cold = in_process(name, "limit", "0", cache=cache)
            filled = in_process(name, "limit", "0", cache=cache)
        say(
            f"| {name} | upper limit | difana | {cold['first']:.2f} | {filled['first']:.2f} | "
            f"{cold['warm']:.4f} | |"
        )
        slope = in_process(name, "gradient", "0")
        say(
            f"| {name} | median limit and its gradient | difana | | | {slope['both']:.4f} | "
            f"{slope['both'] / slope['limit']:.2f} times the limit; worst of 20 against central "
            f"differences {slope['worst']:.1e} |"
        )
    with tempfile.TemporaryDirectory() as cache:
        cold = in_process("1Lbb", "scan", "0", cache=cache)
        filled = in_process("1Lbb", "scan", "0", cache=cache)
    say(
        f"| 1Lbb | CLs of {cold['points']} signal points, reading included | difana | "
        f"{cold['first']:.2f} | {filled['first']:.2f} | {cold['warm']:.2f} | |"
    )
    if args.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
