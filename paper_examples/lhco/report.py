"""Tables, picture, coverage and cross-check of the results."""

from __future__ import annotations

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


def means(runs: list[dict]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation over seeds of every observable that all seeds have."""
    names = [n for n in runs[0]["limits"] if all(run["limits"].get(n) for run in runs)]
    values = {name: np.array([run["limits"][name] for run in runs]) for name in names}
    return {name: (float(v.mean()), float(v.std())) for name, v in values.items()}


def ratios(runs: list[dict]) -> tuple[str, float, float]:
    """Return the best baseline by its mean, the ratio of means, and the error of the latter.

    The seeds are paired: the error is that of the mean of the differences.
    """
    found = means(runs)
    best = min((name for name in found if name != "difana"), key=lambda name: found[name][0])
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
        cells = [
            "{:.4f} ± {:.4f}".format(*found[name]) if name in found else ""
            for found in stats.values()
        ]
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
        if "quantile" not in name and "uniform" not in name
    ]  # fmt: skip
    for name in shown:
        have = [i for i, found in enumerate(stats) if name in found]
        y, error = np.array([stats[i][name] for i in have]).T
        error = error / np.sqrt([len(list(sizes.values())[i]) for i in have])
        style = {"color": "black", "lw": 2} if name == "difana" else {"lw": 1}
        top.errorbar(x[have], y, error, marker="o", ms=4, capsize=2, label=name, **style)
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


def coverage_rows(results: dict[str, Any], *, size: float, toys: int) -> list[str]:
    """Return a Markdown table: coverage and bias of the optimised analysis of the first seed."""
    import jax

    from difana.analysis import coverage
    from difana.likelihood import from_workspace

    runs = by_size(results).get(size)
    if not runs or not toys:
        return []
    model, _ = from_workspace(runs[0]["workspace"])
    lines = [
        "| true mu | CLs limit | CLs+b limit | interval | mean(mu-hat) - mu | mean pull | width |",
        "|---|---|---|---|---|---|---|",
    ]
    mus = (0.0, 1.0, 2.0)
    found = {
        kind: coverage(model, mu=mus, number=toys, key=jax.random.key(1), kind=kind)
        for kind in ("limit", "clsb", "interval")
    }
    for row, mu in enumerate(mus):
        cells = [
            f"{100 * r.coverage[row]:.1f} ± {100 * r.coverage_error[row]:.1f} %"
            for r in found.values()
        ]
        own = found["limit"]
        cells.append(f"{own.bias[row]:+.4f} ± {own.bias_error[row]:.4f}")
        pull, width = own.mean_pull[row], own.pull_width[row]
        cells += [f"{pull:+.3f}", f"{width:.3f}"] if np.isfinite(pull) else ["at the bound", ""]
        lines.append(f"| {mu:g} | " + " | ".join(cells) + " |")
    lost = {kind: r.failed.tolist() for kind, r in found.items()}
    lines.append(f"\n{toys} toys at each value; left out because a fit failed: {lost}")
    return lines


def check_with_pyhf(results: dict[str, Any]) -> dict[str, float]:
    """Return the largest relative difference to pyhf among observed and expected CLs, by size."""
    import jax
    import pyhf

    from difana.infer import hypotest
    from difana.likelihood import from_workspace

    compiled = jax.jit(lambda m, d: hypotest(m, MU, d))
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


def summary(results: dict[str, Any], covered: list[str], differences: dict) -> dict[str, Any]:
    """Return the content of expected.json."""
    sizes = by_size(results)
    return {
        "command": "python paper_examples/lhco/run.py --seeds 5 --write",
        "limits": {
            f"{size:g}": [
                {k: None if v is None else round(v, 5) for k, v in run["limits"].items()}
                for run in runs
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
