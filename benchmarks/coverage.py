"""Coverage of the CLs limits of an analysis by toys.

    python benchmarks/coverage.py demo-output/workspace.json --mu 1 2 --number 10000 --write

Each toy (counts and auxiliary data drawn at the true signal strength) gets its observed 95 % limit;
the share of toys whose limit is not below the truth is the coverage. CLs covers 95 % or more; where
the signal is far from zero it covers 95 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "coverage.md"


def main() -> None:
    """Throw the toys and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--mu", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--number", type=int, default=10_000, help="toys a value")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    import difana

    difana.enable_x64()
    import jax

    from difana.analysis import coverage
    from difana.likelihood import from_workspace, read_workspace

    model, _ = from_workspace(read_workspace(options.workspace))
    found = coverage(model, mu=options.mu, number=options.number, key=jax.random.key(0))
    size = f"{len(model.parameters)} parameters, {options.number} toys a value"
    lines = [
        f"`{options.workspace.name}`, {size}, limits at 95 %.",
        "",
        "| true mu | coverage [%] | fits that failed | bias of the best fit |",
        "|---|---|---|---|",
    ]
    rows = zip(
        found.mu, found.coverage, found.coverage_error, found.failed, found.bias, strict=True
    )
    for mu, share, error, failed, bias in rows:
        lines.append(f"| {mu:g} | {100 * share:.1f} ± {100 * error:.1f} | {failed} | {bias:+.3f} |")
    print("\n".join(lines))
    if options.write:
        RESULT.write_text("# Coverage by toys\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
