"""Write the LHC Olympics signal region to ROOT files with weights.

    python paper_examples/lhco/prepare.py --data PATH --out lhco-data

Signal: label 1 of train and extrasig. Background: label 0 of train and test. The weights add up to
100 expected signal and 20,000 expected background events.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

FILES = ("train", "test", "extrasig")
YIELDS = {"signal": 100.0, "background": 20_000.0}
COLUMNS = ("mj1", "dmj", "tau21_1", "tau21_2")  # TeV, TeV, 1, 1
DEFAULT = Path(
    os.environ.get("DIFANA_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def load(folder: Path) -> dict[str, np.ndarray]:
    """Return the rows (m_JJ, m_J1, m_J2 - m_J1, tau21_J1, tau21_J2, label) of each process."""
    rows = {}
    for name in FILES:
        path = folder / f"innerdata_{name}.npy"
        if not path.is_file():
            raise SystemExit(f"no {path}: give the folder of the LHCO files with --data (README)")
        rows[name] = np.load(path, allow_pickle=False)
    signal = [rows[name][rows[name][:, 5] == 1] for name in ("train", "extrasig")]
    background = [rows[name][rows[name][:, 5] == 0] for name in ("train", "test")]
    return {"signal": np.concatenate(signal), "background": np.concatenate(background)}


def prepare(data: Path, out: Path) -> dict[str, Path]:
    """Write one ROOT file a process; return their paths."""
    import uproot

    out.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, rows in load(data).items():
        branches = {column: rows[:, i + 1] for i, column in enumerate(COLUMNS)}
        branches["mjj"] = rows[:, 0]
        branches["weight"] = np.full(len(rows), YIELDS[name] / len(rows))
        paths[name] = out / f"{name}.root"
        with uproot.recreate(paths[name]) as file:
            file["events"] = branches
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT / "lhco")
    parser.add_argument("--out", type=Path, default=Path("lhco-data"))
    options = parser.parse_args()
    for name, path in prepare(options.data, options.out).items():
        print(f"{name}: {path}")
