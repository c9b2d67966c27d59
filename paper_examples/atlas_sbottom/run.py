"""The published ATLAS sbottom multi-b likelihood, region A: CLs, limits and what drives them.

    python paper_examples/atlas_sbottom/run.py --data PATH [--points 1300_205_60] [--write]

CLs are compared with the values that pyhf's own regression tests assert.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DEFAULT = HERE.parents[2] / "shared" / "data" / "likelihoods" / "sbottom-RegionA"
PUBLISHED = {  # pyhf, tests/test_regression.py: observed, then -2 to +2 sigma
    "1300_205_60": (0.24443627759085326, 0.0902251, 0.1937839, 0.3843234, 0.6557757, 0.8910421),
    "1400_950_60": (0.021373283911064852, 0.0026446, 0.0139761, 0.0649711, 0.2364403, 0.5744786),
    "1500_850_60": (0.045367205665400624, 0.0059843, 0.0261022, 0.1009364, 0.3101925, 0.6553623),
}


def main() -> None:
    """Read the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--points", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--write", action="store_true", help="update expected.json")
    args = parser.parse_args()
    found = run(args.data, args.points)
    if args.write:
        (HERE / "expected.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def run(data: Path, points: Sequence[str]) -> dict:
    """Test, limit and rank the given points; print and return the numbers."""
    from difana.cli import _setup

    _setup.start()
    import equinox as eqx

    from difana.infer import hypotest, upper_limit, what_would_help
    from difana.likelihood import from_workspace

    test = eqx.filter_jit(lambda model, data: hypotest(model, data, mu=1.0))
    limit = eqx.filter_jit(upper_limit)
    found = {}
    for point in points:
        published = PUBLISHED[point]
        patch = data / f"patch.sbottom_{point}.json"
        model, observed = from_workspace(data / "BkgOnly.json", patches=(patch,))
        start = time.perf_counter()
        result, limits = test(model, observed), limit(model, observed)
        cls = [float(result.observed), *np.asarray(result.expected).tolist()]
        found[point] = {
            "cls": cls,
            "largest_difference": max(abs(a / b - 1) for a, b in zip(cls, published, strict=True)),
            "limit": float(limits.observed),
            "expected_limits": np.asarray(limits.expected).tolist(),
            "seconds": round(time.perf_counter() - start, 3),
        }
        print(point, found[point], flush=True)
    for row in what_would_help(model, observed).rows()[:5]:
        print(row)
    return found


if __name__ == "__main__":
    main()
