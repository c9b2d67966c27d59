"""The LHC Olympics example: what is written down, and a small run."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "paper_examples" / "lhco"

pytestmark = [
    pytest.mark.paper,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="paper_examples/lhco is not in this checkout"),
]


@pytest.fixture(scope="module")
def example():
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("lhco_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))
    for name in ("baselines", "events", "prepare", "report"):
        if name not in before:
            sys.modules.pop(name, None)


def test_expected_values_are_consistent(example):
    expected = json.loads((FOLDER / "expected.json").read_text())
    assert list(expected["limits"]) == [f"{size:g}" for size in example.SIZES]
    for size, runs in expected["limits"].items():
        results = {f"{i}-{size}": {"limits": run} for i, run in enumerate(runs)}
        best, ratio, error = sys.modules["report"].ratios(list(results.values()))
        assert best == expected["best_baseline"][size]
        assert ratio == pytest.approx(expected["ratio_of_means"][size], abs=2e-4)
        assert error == pytest.approx(expected["error_of_ratio"][size], abs=2e-4)
    assert max(expected["largest_relative_difference_to_pyhf_cls"].values()) < 1e-5


def test_events_of_a_size_are_those_of_another_moved(example):
    rows = {"signal": np.random.default_rng(0).uniform(1, 2, (100, 6))}
    rows["background"] = rows["signal"].copy()
    none, full = (example.splits_of(rows, seed=1, size=size) for size in (0.0, 4.0))
    assert [len(part[0].nominal) for part in none] == [30, 20, 50]
    nominal, moved = none[0][1], full[0][1]
    assert np.array_equal(nominal.nominal.features, moved.nominal.features)
    assert np.array_equal(nominal.variations[0].up.features, nominal.nominal.features)
    ratio = np.asarray(moved.variations[0].up.features / moved.nominal.features)
    assert ratio == pytest.approx(np.tile([1.12, 1.12, 1.0, 1.0], (30, 1)), rel=1e-5)
    ratio = np.asarray(moved.variations[1].down.features / moved.nominal.features)
    assert ratio == pytest.approx(np.tile([1.0, 1.0, 0.8, 0.8], (30, 1)), rel=1e-5)
    for sample, total in zip(full[2], (100.0, 20_000.0), strict=True):
        assert float(sample.nominal.total()) == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_a_small_run(example, data_dir):
    rows = example.load(data_dir / "lhco")
    ((size, found),) = example.analyse(rows, 0, (4.0,), {}, example.REDUCED)
    limits = found["limits"]
    assert size == 4.0
    assert found["status"] == "ok"
    assert limits["difana"] < limits["cross-entropy, quantile bins"]
    assert limits["cross-entropy, best bins"] < limits["cross-entropy, uniform bins"]
    assert limits["difana"] < 1.15 * min(v for k, v in limits.items() if v and k != "difana")
