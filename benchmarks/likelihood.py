"""Fits, tests, limits and toys of published likelihoods: difana, pyhf and NextStat in one run.

    python benchmarks/likelihood.py [--data PATH] [--workspace FILE ...] [--nextstat PYTHON]
        [--skip-minuit | --skip-pyhf] [--write]

Times are those of fresh processes: the first call counts from reading the JSON (imports done) to
the numbers, with an empty and with a filled compilation cache; warm calls are medians. A ratio
compares like with like: warm with warm, or, where the peer was called once only, first with first.
Derivatives below 1e-5 of the largest are compared with that: differences of a limit are no better.

NextStat (AGPL) is run only, in an environment of its own (`pip install nextstat==0.10.1 numpy`),
by the Python given with --nextstat. Workspaces given with --workspace are measured, too.
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
TASKS = {"fit": "fit and covariance", "test": "CLs", "limit": "upper limit"}
WARM = {"fit": 50, "test": 50, "limit": 20, "toys": 3}
TOYS = 10_000  # of each hypothesis
TWO_BINS = {  # signal and a background with uncorrelated uncertainties, as in pyhf's README
    "channels": [
        {
            "name": "singlechannel",
            "samples": [
                {
                    "name": "signal",
                    "data": [12.0, 11.0],
                    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                },
                {
                    "name": "background",
                    "data": [50.0, 52.0],
                    "modifiers": [{"name": "unc", "type": "shapesys", "data": [3.0, 7.0]}],
                },
            ],
        }
    ],
    "observations": [{"name": "singlechannel", "data": [51.0, 48.0]}],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    "version": "1.0.0",
}


def files(name: str, data: Path) -> tuple[Path, dict]:
    """Return the workspace file and how its signal is patched in."""
    if name == "sbottom":
        patch = data / "sbottom-RegionA" / f"patch.{POINTS[name]}.json"
        return data / "sbottom-RegionA" / "BkgOnly.json", {"patches": (patch,)}
    return data / "1Lbb" / "workspace_v1.json.gz", {"point": POINTS[name]}


def patched(name: str, data: Path) -> dict:
    """Return the workspace with its signal."""
    from difana.likelihood import read_patchset, read_workspace

    if name == "two bins":
        return TWO_BINS
    if name not in POINTS:
        return read_workspace(name)
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

    from difana.infer import expected_limits, fit, hypotest, toys, upper_limit
    from difana.likelihood import from_workspace

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.block_until_ready(jax.numpy.zeros(1))  # starting the backend is not compilation
    if task == "scan":
        return scan(data)
    start = time.perf_counter()
    model, observed = from_workspace(patched(name, data))
    read = time.perf_counter() - start
    calls = {
        "fit": lambda: fitted(model, observed),
        "test": lambda: tested(model, observed),
        "limit": lambda: limited(model, observed),
        "toys": lambda: toys(model, observed, number=TOYS, key=jax.random.key(1)),
    }
    fitted, limited = eqx.filter_jit(fit), eqx.filter_jit(upper_limit)
    tested = eqx.filter_jit(lambda m, d: hypotest(m, d, mu=1.0))
    if task in calls:
        result = jax.block_until_ready(calls[task]())
        first = time.perf_counter() - start
        warm = repeated(lambda: jax.block_until_ready(calls[task]()), WARM[task])
        if task == "fit":
            numbers = [float(result.nll), float(result.params[model.poi_index])]
        elif task == "toys":
            numbers = [result.cls, result.clsb, result.clb]
        else:
            numbers = [float(result.observed), *np.asarray(result.expected).tolist()]
        size = len(model.parameters)
        return {"read": read, "first": first, "warm": warm, "numbers": numbers, "size": size}
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


def nextstat(workspace: str, task: str) -> dict:
    """Time NextStat in this process, which must be one of its environment."""
    import nextstat as ns

    text = Path(workspace).read_text(encoding="utf-8")
    start = time.perf_counter()
    model = ns.from_pyhf(text)

    def call() -> list[float]:
        if task == "fit":
            found = ns.fit(model)
            return [found.nll, found.parameters[model.poi_index()]]
        if task == "toys":
            cls, tails = ns.hypotest_toys(1.0, model, n_toys=TOYS, seed=1, return_tail_probs=True)
            return [cls, *tails]
        if task == "limit":
            observed, band = ns.upper_limit(model, method="root")
            return [observed, *sorted(band)]
        found = ns.cls_curve(model, [1.0, 1.0])  # takes no single value
        return [found["cls_obs"][0], *(values[0] for values in found["cls_exp"])]

    numbers = [float(value) for value in call()]
    first = time.perf_counter() - start
    warm = repeated(call, 1 if first > 3 else 5)
    half = 0.5 if task == "test" else 1.0
    return {"first": half * first, "warm": half * warm, "numbers": numbers}


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
    warm = repeated(test, calls) if calls else None
    return {"first": first, "warm": warm, "numbers": numbers}


def in_process(*words: str, cache: str = "off", python: str = sys.executable) -> dict:
    """Run one measurement in a fresh process."""
    command = [python, __file__, *sys.argv[1:], "--measure", *words]
    environment = {**os.environ, "DIFANA_CACHE": cache, "JAX_ENABLE_COMPILATION_CACHE": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def cold_and_filled(name: str, task: str) -> tuple[dict, float]:
    """Return what was measured with an empty cache, and the first call with a filled one."""
    with tempfile.TemporaryDirectory() as cache:
        cold = in_process(name, task, "0", cache=cache)
        return cold, in_process(name, task, "0", cache=cache)["first"]


def compared(peer: dict, cold: dict, *, toys: bool = False) -> str:
    """Return the ratio of times, like with like, and how far the numbers are apart."""
    pairs = zip(cold["numbers"], peer["numbers"], strict=True)
    if toys:
        what = "CLs, CLs+b, CLb " + ", ".join(f"{b:.4f} (difana {a:.4f})" for a, b in pairs)
    else:
        apart = max(abs(a - b) / max(abs(b), 1e-3) for a, b in pairs)  # a best fit may be zero
        what = f"largest relative difference {apart:.1e}"
    warm = peer.get("warm")
    ratio = f"{warm / cold['warm']:.0f}" if warm else f"{peer['first'] / cold['first']:.0f} (first)"
    return f"{ratio}; {what}"


def row(name: str, task: str, who: str, times: dict, filled: float | None, note: str) -> str:
    """Return a row of the table."""
    warm = times.get("warm")
    return (
        f"| {Path(name).stem} | {task} | {who} | {times['first']:.2f} | "
        f"{'' if filled is None else f'{filled:.2f}'} | {'' if not warm else f'{warm:.4f}'} | "
        f"{note} |"
    )


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/likelihoods")
    parser.add_argument("--workspace", action="append", default=[], help="measure this one, too")
    parser.add_argument("--nextstat", help="Python of an environment with NextStat")
    parser.add_argument(
        "--skip-minuit", action="store_true", help="pyhf numpy/minuit takes minutes"
    )
    parser.add_argument("--skip-pyhf", action="store_true", help="no pyhf")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict:
    """Return one measurement of this process."""
    name, task, calls = args.measure
    if task.startswith("nextstat"):
        return nextstat(name, task.split("/")[1])
    if "/" in task:
        return theirs(name, args.data, task, int(calls))
    return ours(name, args.data, task)


def main() -> None:
    """Measure everything and print the table."""
    args = parsed()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    lines = [
        "# Likelihoods: difana against its peers",
        "",
        (
            f"`python {' '.join(['benchmarks/likelihood.py', *sys.argv[1:]])}`; {os.cpu_count()} "
            f"cores, load {os.getloadavg()[0]:.1f} before the run. Seconds; tests and limits: "
            "observed and five expected values. Last column: peer / difana, warm if not said "
            "otherwise."
        ),
        "",
        "| likelihood | task | who | first call | first, cache filled | warm | compared |",
        "|---|---|---|---|---|---|---|",
    ]

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    print("\n".join(lines))
    settings = ["numpy/scipy", "jax/scipy"] + ([] if args.skip_minuit else ["numpy/minuit"])
    for name in [*POINTS, *args.workspace, "two bins"]:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as plain:
            json.dump(patched(name, args.data), plain)
            plain.flush()
            for task in TASKS if name != "two bins" else ["toys"]:
                cold, filled = cold_and_filled(name, task)
                words = TASKS.get(task, f"{TOYS} + {TOYS} toys")
                size = f"{cold['size']} parameters"
                say(row(name, words, "difana", cold, filled, size))
                if args.nextstat:
                    try:
                        python = args.nextstat
                        peer = in_process(plain.name, f"nextstat/{task}", "0", python=python)
                    except RuntimeError as error:  # it finds no limit of some workspaces
                        reason = str(error).strip().splitlines()[-1]
                        say(f"| {Path(name).stem} | {words} | NextStat | | | | {reason} |")
                        continue
                    note = compared(peer, cold, toys=task == "toys")
                    say(row(name, words, "NextStat", peer, None, note))
                if task == "test" and name in POINTS and not args.skip_pyhf:
                    for setting in settings:
                        calls = "0" if setting == "numpy/minuit" else "1"
                        peer = in_process(name, setting, calls)
                        say(row(name, words, f"pyhf {setting}", peer, None, compared(peer, cold)))
        if name in POINTS:
            slope = in_process(name, "gradient", "0")
            say(
                f"| {name} | median limit and its gradient | difana | | | {slope['both']:.4f} | "
                f"{slope['both'] / slope['limit']:.2f} times the limit; worst of 20 against "
                f"central differences {slope['worst']:.1e} |"
            )
    cold, filled = cold_and_filled("1Lbb", "scan")
    say(
        row("1Lbb", f"CLs of {cold['points']} points, reading included", "difana", cold, filled, "")
    )
    if args.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
