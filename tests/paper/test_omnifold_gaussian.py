from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "paper_examples" / "omnifold_gaussian"

pytestmark = [
    pytest.mark.paper,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no paper_examples in this checkout"),
]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("omnifold_gaussian_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_expected_values_follow_the_closed_form(example):
    expected = json.loads((FOLDER / "expected.json").read_text())
    assert expected["exact"] == json.loads(json.dumps(example.exact()))
    # the table of the reference, quoted to four digits
    assert expected["exact"]["minimal"]["1"] == pytest.approx([0.0562, 0.9089], abs=1e-4)
    assert expected["exact"]["blurred"]["5"] == pytest.approx([0.1335, 0.9827], abs=1e-4)
    for seed in expected["recursion"].values():
        for toy, rows in seed["mlp"].items():
            for iteration, found in rows.items():
                assert found == pytest.approx(expected["exact"][toy][iteration], abs=0.0101)


def test_bootstraps_cover():
    expected = json.loads((FOLDER / "expected.json").read_text())["coverage"]
    pulls = np.concatenate([np.asarray(seed["pulls"]) for seed in expected.values()])
    assert len(pulls) == 50
    assert np.mean(np.abs(pulls) < 1) == pytest.approx(0.68, abs=0.06)


@pytest.mark.slow
def test_reduced_recursion(example):
    found = example.recursion(seed=0, **example.REDUCED["recursion"])["quadratic"]
    for toy, rows in example.exact().items():
        for iteration, wanted in rows.items():
            np.testing.assert_allclose(found[toy][iteration], wanted, atol=0.025)
