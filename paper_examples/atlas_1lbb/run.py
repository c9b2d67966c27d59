"""CLs of all signal points of the published ATLAS 1-lepton + 2 b-jets likelihood, and the contour.

    python paper_examples/atlas_1lbb/run.py --data PATH --out atlas-1lbb [--pyhf 700_400 ...]

One compiled function serves all points; nothing is rebuilt between them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DEFAULT = HERE.parents[2] / "shared" / "data" / "likelihoods" / "1Lbb"


def scan(data: Path, out: Path) -> dict:
    """Test all points, write table and picture, return the numbers."""
    from difana.cli import _setup

    _setup.start(fits=True)
    import equinox as eqx
    import jax

    from difana import plot
    from difana.infer import describe, hypotest
    from difana.likelihood import read_patchset, signal_points

    start = time.perf_counter()
    grid = signal_points(
        data / "workspace_v1.json.gz", read_patchset(data / "patchsets_v1.json.gz")
    )
    test = eqx.filter_jit(
        lambda models, observed: jax.lax.map(
            lambda one: hypotest(one[0], one[1], mu=1.0), (models, observed)
        )
    )
    result = jax.block_until_ready(test(grid.model, grid.data))
    seconds = time.perf_counter() - start
    observed, expected = np.asarray(result.observed), np.asarray(result.expected)
    table = {
        name: {"values": list(values), "observed": float(o), "expected": e.tolist()}
        for name, values, o, e in zip(grid.names, grid.values, observed, expected, strict=True)
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "cls.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    x, y = np.array(grid.values, float).T[:2]
    figure = plot.exclusion(
        x,
        y,
        expected,
        observed,
        xlabel=r"$m(\tilde\chi_1^\pm/\tilde\chi_2^0)$ [GeV]",
        ylabel=r"$m(\tilde\chi_1^0)$ [GeV]",
    )
    figure.savefig(out / "exclusion.png", dpi=120)
    return {
        "seconds": round(seconds, 2),
        "points": len(table),
        "excluded": int((observed < 0.05).sum()),
        "expected_excluded": int((expected[:, 2] < 0.05).sum()),
        "status": describe(result.status),
        "table": table,
    }


def pyhf_cls(data: Path, point: str) -> list[float]:
    """Return observed and expected CLs of one point by pyhf with a tight tolerance."""
    import pyhf

    from difana.likelihood import read_patchset, read_workspace

    warnings.simplefilter("ignore")
    pyhf.set_backend("jax", pyhf.optimize.scipy_optimizer(tolerance=1e-12, maxiter=100_000))
    patchset = read_patchset(data / "patchsets_v1.json.gz")
    workspace = pyhf.Workspace(patchset.apply(read_workspace(data / "workspace_v1.json.gz"), point))
    codes = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    model = workspace.model(modifier_settings=codes)
    observed, band = pyhf.infer.hypotest(
        1.0, workspace.data(model), model, test_stat="qtilde", return_expected_set=True
    )
    return [float(observed), *map(float, band)]


def main() -> None:
    """Scan, compare some points with pyhf, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--out", type=Path, default=Path("atlas-1lbb"))
    parser.add_argument("--pyhf", nargs="*", default=[], metavar="POINT", help="e.g. 700_400")
    parser.add_argument("--write", action="store_true", help="update expected.json")
    args = parser.parse_args()
    found = scan(args.data, args.out)
    print({key: value for key, value in found.items() if key != "table"})
    comparison = {}
    for point in args.pyhf:
        name = f"C1N2_Wh_hbb_{point}"
        own = found["table"][name]
        start = time.perf_counter()
        peer = pyhf_cls(args.data, name)
        both = zip([own["observed"], *own["expected"]], peer, strict=True)
        comparison[point] = {
            "difana": own["observed"],
            "pyhf": peer[0],
            "largest_difference": max(abs(a / b - 1) for a, b in both),
            "pyhf_seconds": round(time.perf_counter() - start, 1),
        }
        print(point, comparison[point], flush=True)
    if args.write:
        kept = {key: value for key, value in found.items() if key != "table"}
        content = {**kept, "pyhf": comparison}
        (HERE / "expected.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
