"""Tables, picture, coverage and cross-check of the results."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

MU = 0.3  # of the CLs that are compared with pyhf


def by_size(results: dict[str, Any]) -> dict[float, list[dict]]:
    """Return the results of all seeds by size of the systematics."""
    sizes: dict[float, list[dict]] = {}
    for key in sorted(results, key=lambda k: (float(k.split("-")[1]), int(k.split("-")[0]))):
        sizes.setdefault(float(key.split("-")[1]), []).append(results[key])
    return sizes


def means(runs: list[dict]) -> dict[str, tuple[float, float, int]]:
    """Return mean and standard deviation over seeds of every observable, and their number."""
    names = dict.fromkeys(name for run in runs for name in run["limits"])
    found = {}
    for name in names:
        values = [run["limits"][name] for run in runs if run["limits"].get(name)]
        if values:
            found[name] = (float(np.mean(values)), float(np.std(values)), len(values))
    return found


def ratios(runs: list[dict]) -> tuple[str, float, float]:
    """Return the best baseline by its mean, the ratio of means, and the error of the latter.

    The seeds are paired: the error is that of the mean of the differences.
    """
    runs = [run for run in runs if run["limits"].get("difana")]
    if not runs:
        return "", np.nan, np.nan
    found = {name: row[0] for name, row in means(runs).items() if row[2] == len(runs)}
    best = min((name for name in found if name != "difana"), key=lambda name: found[name])
    ours, theirs = (np.array([run["limits"][n] for run in runs]) for n in ("difana", best))
    error = np.std(ours - theirs, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else np.nan
    return best, float(ours.mean() / theirs.mean()), float(error / theirs.mean())


def gain(results: dict[str, Any]) -> dict[str, str]:
    """Return the gain over the best baseline by size."""
    found = {f"{size:g}": ratios(runs) for size, runs in by_size(results).items()}
    return {
        k: f"{100 * (1 - r):.1f} +- {100 * e:.1f} % over {best}"
        for k, (best, r, e) in found.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return the limits as a Markdown table: mean and standard deviation over seeds."""
    sizes = by_size(results)
    stats = {size: means(runs) for size, runs in sizes.items()}
    names = list(dict.fromkeys(name for found in stats.values() for name in found))
    names = [*(name for name in names if name != "difana"), "difana"]
    lines = ["| observable | " + " | ".join(f"{s:g} x" for s in sizes) + " |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for name in names:
        cells = []
        for size, found in stats.items():
            mean, std, number = found.get(name, (0.0, 0.0, 0))
            fewer = "" if number == len(sizes[size]) else f" ({number})"
            cells.append(f"{mean:.4f} ± {std:.4f}{fewer}" if number else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    cells = ["{1:.3f} ± {2:.3f}".format(*ratios(runs)) for runs in sizes.values()]
    lines.append("| difana / best baseline (ratio of means) | " + " | ".join(cells) + " |")
    lines.append("| seeds | " + " | ".join(str(len(runs)) for runs in sizes.values()) + " |")
    return "\n".join(lines)


def picture(results: dict[str, Any], path: Path) -> None:
    """Draw limits and gain against the size of the systematics."""
    import matplotlib.pyplot as plt

    sizes = by_size(results)
    x = np.array(list(sizes))
    stats = [means(runs) for runs in sizes.values()]
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(6, 6), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    shown = [
        name for name in dict.fromkeys(n for found in stats for n in found)
        if name.endswith("best bins") or name in ("cross-entropy, equal-signal bins", "difana")
    ]  # fmt: skip
    for name in shown:
        have = [i for i, found in enumerate(stats) if name in found]
        y, error, number = np.array([stats[i][name] for i in have]).T
        error = error / np.sqrt(number)
        style = {"color": "black", "lw": 2} if name == "difana" else {"lw": 1}
        top.errorbar(x[have], y, error, marker="o", ms=4, capsize=2, label=name, **style)
    if x[0] == 0:
        floor = min(value for value, *_ in stats[0].values())
        top.axhline(floor, color="grey", lw=0.8, ls=":", label="without systematics")
    top.set_ylabel("median expected limit on mu")
    top.legend(frameon=False, fontsize=8)
    found = [ratios(runs) for runs in sizes.values()]
    y = 100 * (1 - np.array([ratio for _, ratio, _ in found]))
    bottom.errorbar(
        x, y, [100 * error for *_, error in found], color="black", marker="o", ms=4, capsize=2
    )
    bottom.axhline(0, color="grey", lw=0.8)
    bottom.set_xlabel("systematics / nominal (mass 3 %, tau21 5 %)")
    bottom.set_ylabel("gain over best\nbaseline [%]")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def gaussian_coverage(ratio: float, *, level: float = 0.95) -> float:
    """Return the coverage of the CLs limit for a Gaussian estimate, ``ratio`` = mu / sigma.

    The limit contains mu if Phi(z) >= (1 - level) Phi(z + ratio), with z = (mu-hat - mu) / sigma.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    def excess(z: float) -> float:
        return float(norm.logcdf(z) - norm.logcdf(z + ratio) - np.log(1 - level))

    if excess(-30.0) > 0:
        return 1.0  # mu = 0 is never excluded
    return float(norm.sf(brentq(excess, -30.0, 5.0)))


def coverage_of(
    results: dict[str, Any], keys: tuple[str, ...], *, toys: int, file: Path
) -> dict[str, Any]:
    """Return coverage and bias of the optimised analyses; those in ``file`` are not done again."""
    import jax

    from difana.analysis import coverage
    from difana.likelihood import from_workspace

    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    mus = [0.0, 1.0, 2.0]
    for key in keys:
        known = found.get(key, {})
        if key not in results or not toys or ("by_toys" in known and known["toys"] >= toys):
            continue
        model, _ = from_workspace(results[key]["workspace"])
        rows: dict[str, Any] = {"toys": toys, "mu": mus}
        for kind in ("limit", "interval"):
            own = coverage(model, mu=mus, number=toys, key=jax.random.key(1), kind=kind)
            rows[kind] = own.coverage.round(5).tolist()
            rows[f"{kind}_error"] = own.coverage_error.round(5).tolist()
            rows[f"{kind}_failed"] = own.failed.tolist()
            if kind == "limit":
                rows |= {"bias": own.bias.round(5).tolist()}
                rows |= {"bias_error": own.bias_error.round(5).tolist()}
                rows |= {"pull": [None if np.isnan(p) else round(p, 4) for p in own.mean_pull]}
                rows |= {"width": [None if np.isnan(p) else round(p, 4) for p in own.pull_width]}
                spread = own.best.std(axis=1)
                ratios = [mu / s for mu, s in zip(mus, spread, strict=True)]
                rows["gaussian"] = [round(gaussian_coverage(float(r)), 5) for r in ratios]
        by_toys = [(1.0, 0.0)]  # CLs never excludes 0
        by_toys += [toy_coverage(model, mu, experiments=toys // 4, toys=400) for mu in mus[1:]]
        rows["by_toys"], rows["by_toys_error"] = (list(part) for part in zip(*by_toys, strict=True))
        found[key] = rows
        file.write_text(json.dumps(found), encoding="utf-8")
    return found


def toy_coverage(
    model: Any, mu: float, *, experiments: int, toys: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the coverage of the CLs limit by toys, and its error.

    Each experiment gets toys of its own, with nuisances fitted to it. Where the asymptotic
    CLs+b is above 0.35 the truth is covered without a toy.
    """
    import equinox as eqx
    import jax

    from difana.infer import hypotest, sample_data
    from difana.infer import toys as by_toys

    key = jax.random.key(2)
    truth = model.init.at[model.poi_index].set(mu)
    data = sample_data(model, truth, key=key, number=experiments)
    ask = eqx.filter_jit(lambda m, rows: jax.vmap(lambda row: hypotest(m, row, mu=mu).clsb)(rows))
    asked = np.concatenate([np.asarray(ask(model, rows)) for rows in np.array_split(data, 10)])
    covered = np.ones(experiments, bool)
    for i in np.flatnonzero(~(asked > 0.35)):
        found = by_toys(model, data[i], mu, number=toys, key=jax.random.fold_in(key, int(i)))
        covered[i] = found.cls >= 1 - level
    share = float(covered.mean())
    return share, float(np.sqrt(share * (1 - share) / experiments))


def coverage_table(found: dict[str, Any]) -> str:
    """Return coverage and bias as a Markdown table."""
    heads = ["seed, size", "true mu", "CLs limit", "CLs limit by toys", "Gaussian closed form"]
    heads += ["two-sided interval"]
    heads += ["mean(mu-hat) - mu", "mean pull", "width of pulls"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for key, rows in found.items():
        for i, mu in enumerate(rows["mu"]):
            cells = [f"{key.replace('-', ', ')} x", f"{mu:g}"]
            cells.append(f"{100 * rows['limit'][i]:.1f} ± {100 * rows['limit_error'][i]:.1f} %")
            cells.append(f"{100 * rows['by_toys'][i]:.1f} ± {100 * rows['by_toys_error'][i]:.1f} %")
            cells.append(f"{100 * rows['gaussian'][i]:.1f} %")
            cells.append(
                f"{100 * rows['interval'][i]:.1f} ± {100 * rows['interval_error'][i]:.1f} %"
            )
            cells.append(f"{rows['bias'][i]:+.3f} ± {rows['bias_error'][i]:.3f}")
            pull, width = rows["pull"][i], rows["width"][i]
            cells += ["at the bound", ""] if pull is None else [f"{pull:+.3f}", f"{width:.3f}"]
            lines.append("| " + " | ".join(cells) + " |")
    lost = {k: [sum(r["limit_failed"]), sum(r["interval_failed"])] for k, r in found.items()}
    lines.append(f"\ntoys left out because a fit failed: {lost}")
    return "\n".join(lines)


def check_with_pyhf(results: dict[str, Any]) -> dict[str, float]:
    """Return the largest relative difference to pyhf among observed and expected CLs, by size."""
    import jax
    import pyhf

    from difana.infer import hypotest
    from difana.likelihood import from_workspace

    compiled = jax.jit(lambda m, d: hypotest(m, d, mu=MU))
    found = {}
    for size, runs in by_size(results).items():
        workspace = runs[0]["workspace"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pyhf.set_backend(
                "numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-14, maxiter=100_000)
            )
            space = pyhf.Workspace(workspace)
            model = space.model()
            observed, expected = pyhf.infer.hypotest(
                MU, space.data(model), model, return_expected_set=True
            )
        theirs = np.array([float(observed), *map(float, expected)])
        result = compiled(*from_workspace(workspace))
        ours = np.array([float(result.observed), *np.asarray(result.expected)])
        found[f"{size:g}"] = float(np.max(np.abs(ours / theirs - 1)))
    return found


def summary(results: dict[str, Any], covered: dict, differences: dict) -> dict[str, Any]:
    """Return the content of expected.json."""
    sizes = by_size(results)
    return {
        "command": "python paper_examples/lhco/run.py --write",
        "limits": {
            f"{size:g}": [
                {k: None if v is None else round(v, 5) for k, v in run["limits"].items()}
                for run in runs
            ]
            for size, runs in sizes.items()
        },
        "difana": {
            f"{size:g}": [
                {k: run.get(k) for k in ("chosen", "validation", "candidates")} for run in runs
            ]
            for size, runs in sizes.items()
        },
        "best_baseline": {f"{size:g}": ratios(runs)[0] for size, runs in sizes.items()},
        "ratio_of_means": {f"{s:g}": round(ratios(runs)[1], 4) for s, runs in sizes.items()},
        "error_of_ratio": {f"{s:g}": round(ratios(runs)[2], 4) for s, runs in sizes.items()},
        "largest_relative_difference_to_pyhf_cls": differences,
        "coverage": covered,
        "targets": {"ratio at every size": 1.01, "ratio at 4": 0.8, "coverage": [0.94, 0.96]},
    }
