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
    """What the read-me says of the numbers that were measured."""
    expected = json.loads((FOLDER / "expected.json").read_text())
    assert list(expected["baselines"]) == [f"{size:g}" for size in example.SIZES]
    for size, runs in expected["baselines"].items():
        for limits in runs.values():
            best = limits["cross-entropy, best bins"]
            assert best < limits["cross-entropy, uniform bins"]
            if size == "4":
                assert best < limits["cross-entropy, equal-signal bins"]
    for seed, limit in expected["difana"]["4"].items():
        best = expected["baselines"]["4"][seed]["cross-entropy, best bins"]
        assert limit < 1.01 * best


def test_means_and_ratios_pair_the_seeds(example):
    """Closed form of the table's last line."""
    report = sys.modules["report"]
    ours, theirs = np.array([0.8, 1.0, 0.9]), np.array([1.0, 1.1, 1.2])
    runs = [{"limits": {"a": t, "b": 2.0, "difana": o}} for o, t in zip(ours, theirs, strict=True)]
    best, ratio, error = report.ratios(runs)
    assert (best, ratio) == ("a", pytest.approx(2.7 / 3.3))
    assert error == pytest.approx(np.std(ours - theirs, ddof=1) / 3**0.5 / 1.1)
    table = report.table({f"{i}-4": run for i, run in enumerate(runs)})
    assert "| difana | 0.9000 ± 0.0816 |" in table


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
