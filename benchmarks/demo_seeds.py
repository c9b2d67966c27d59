"""The demonstration averaged over seeds: the limit trained end to end against cross-entropy.

    python benchmarks/demo_seeds.py --seeds 5 --write

Every seed generates its own events, split, weights and batches. All limits are from hard bins of
the test split.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "demo_seeds.md"
DIFANA = "difana"


def limits(seed: int, folder: Path, events: int) -> dict[str, float]:
    """Return the median expected limits of one seed by observable."""
    from difana.analysis import run
    from difana.cli.demo import CONFIG
    from difana.data.generate import write_resonance

    write_resonance(folder / "ntuples", seed=seed, events=events)
    (folder / "analysis.yaml").write_text(CONFIG.format(seed=seed), encoding="utf-8")
    result = run(folder / "analysis.yaml", folder, progress=False)
    return {entry.name: entry.median for entry in result.comparison}


def table(rows: list[dict[str, float]]) -> str:
    """Return mean, spread and the ratio to difana, seed by seed and on average."""
    lines = [
        f"Median expected limit on mu, test split, {len(rows)} seeds.",
        "",
        "| observable | mean | standard deviation | difana / this, mean | range |",
        "|---|---|---|---|---|",
    ]
    for name in rows[0]:
        values = [row[name] for row in rows]
        ratios = [row[DIFANA] / row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(
            f"| {name} | {statistics.mean(values):.3f} | {spread:.3f} "
            f"| {statistics.mean(ratios):.3f} | {min(ratios):.3f} to {max(ratios):.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    import difana

    difana.enable_x64()
    rows = []
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(limits(seed, Path(folder), options.events))
        print(seed, {name: round(value, 4) for name, value in rows[-1].items()}, flush=True)
    print(table(rows))
    if options.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
