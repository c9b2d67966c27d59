"""What `difana run` does with the LHC Olympics, ROOT files to limits, against simple binnings.

    python paper_examples/lhco/recipe.py --data PATH --seeds 5 --out lhco-recipe [--write]

Finished runs are kept in the output folder and not done again.

Two configurations: scales of the jet mass 3 % and of tau21 5 % ("small"), and four times that
("large"). Every limit is from hard bins of the test split; every workspace goes through pyhf, too.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from prepare import DEFAULT, prepare

HERE = Path(__file__).parent
SIZES = {"small": (0.03, 0.05), "large": (0.12, 0.20)}
BASELINE = "cross-entropy, equal-signal bins"


def analyse(size: str, seed: int, inputs: Path, out: Path) -> dict:
    """Run one analysis and return its table of limits, with the CLs of difana and of pyhf."""
    from difana.analysis import run

    mass, tau = SIZES[size]
    text = (HERE / "analysis.yaml").read_text(encoding="utf-8")
    for word, value in {"INPUT": inputs.resolve(), "SEED": seed, "MASS": mass, "TAU": tau}.items():
        text = text.replace(word, str(value))
    folder = out / f"{size}-{seed}"
    kept = folder / "limits.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "analysis.yaml").write_text(text, encoding="utf-8")
    result = run(folder / "analysis.yaml", folder, progress=False)
    limits = {entry.name: entry.median for entry in result.comparison}
    workspace = json.loads((folder / "workspace.json").read_text(encoding="utf-8"))
    found = {"limits": limits, **compare_with_pyhf(workspace)}
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def compare_with_pyhf(workspace: dict) -> dict[str, float]:
    """Return the observed CLs at mu = 0.3 of pyhf, and the largest relative difference to difana.

    The observed data are Asimov data; all six numbers are compared.
    """
    import jax
    import pyhf

    from difana.infer import hypotest
    from difana.likelihood import from_workspace

    mu = 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-14, maxiter=100_000))
        space = pyhf.Workspace(workspace)
        model = space.model()
        observed, expected = pyhf.infer.hypotest(
            mu, space.data(model), model, return_expected_set=True
        )
    theirs = np.array([float(observed), *map(float, expected)])
    own_model, data = from_workspace(workspace)
    result = jax.jit(lambda m, d: hypotest(m, d, mu=mu))(own_model, data)
    ours = np.array([float(result.observed), *np.asarray(result.expected)])
    return {"pyhf_cls": theirs[0], "difference": float(np.max(np.abs(ours / theirs - 1)))}


def table(results: dict[str, list[dict]]) -> str:
    """Return the limits as a Markdown table: mean and standard deviation over seeds."""
    names = list(next(iter(results.values()))[0]["limits"])
    lines = ["| observable | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for name in names:
        cells = []
        for runs in results.values():
            values = [run["limits"][name] for run in runs]
            cells.append(f"{np.mean(values):.4f} ± {np.std(values):.4f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ratios = [f"{ratio(runs):.3f}" for runs in results.values()]
    lines.append("| difana / equal-signal (ratio of means) | " + " | ".join(ratios) + " |")
    worst = [f"{max(run['difference'] for run in runs):.1e}" for runs in results.values()]
    lines.append("| largest relative difference to pyhf in CLs | " + " | ".join(worst) + " |")
    return "\n".join(lines)


def ratio(runs: list[dict]) -> float:
    """Return the mean limit of difana over that of cross-entropy in equal-signal bins."""
    ours = np.mean([run["limits"]["difana"] for run in runs])
    return float(ours / np.mean([run["limits"][BASELINE] for run in runs]))


def main() -> None:
    """Run all seeds of both configurations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT / "lhco")
    parser.add_argument("--out", type=Path, default=Path("lhco-recipe"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--write", action="store_true", help="update expected_recipe.json")
    options = parser.parse_args()
    import jax

    import difana

    difana.enable_x64()
    jax.config.update("jax_compilation_cache_dir", str(options.out / "cache"))
    inputs = options.out / "data"
    prepare(options.data, inputs)
    results: dict[str, list[dict]] = {size: [] for size in options.sizes}
    for seed in range(options.seeds):
        for size, runs in results.items():
            runs.append(analyse(size, seed, inputs, options.out))
            print(size, seed, json.dumps(runs[-1]), flush=True)
    print(table(results))
    if options.write:
        content = {
            "command": f"python paper_examples/lhco/recipe.py --seeds {options.seeds}",
            "limits": {
                size: [{k: round(v, 5) for k, v in one["limits"].items()} for one in runs]
                for size, runs in results.items()
            },
            "ratio_of_means_to_equal_signal": {
                size: round(ratio(runs), 4) for size, runs in results.items()
            },
            "largest_relative_difference_to_pyhf_cls": {
                size: max(one["difference"] for one in runs) for size, runs in results.items()
            },
            "targets": {"small": 1.0, "large": 0.9},
        }
        (HERE / "expected_recipe.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
