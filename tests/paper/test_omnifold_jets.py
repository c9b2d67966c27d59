"""A small run of the jet unfolding, and what the full one found."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "paper_examples" / "omnifold_jets"

pytestmark = [
    pytest.mark.paper,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no paper_examples in this checkout"),
]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("omnifold_jets_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_expected_values_meet_the_targets(example):
    expected = json.loads((FOLDER / "expected.json").read_text())
    found = expected["summary"]
    assert len(expected["seeds"]) >= 3
    assert found == json.loads(json.dumps(example.summary(expected["seeds"])))
    assert all(found["MultiFold at least as good as IBU"])
    assert found["MultiFold AUC"]["mean"] <= 0.52
    # no better than perfect classifiers, and the test sees nothing where there is nothing
    assert abs(found["MultiFold AUC"]["mean"] - expected["ideal AUC"]) < 0.01
    assert abs(found["truth AUC"]["mean"] - 0.5) < 0.005


def test_ideal_iterations_converge(example):
    found = [example.ideal_auc(k, draws=50_000) for k in (0, 3, 8)]
    np.testing.assert_allclose(found, [0.663, 0.536, 0.505], atol=0.005)


def test_ibu_undoes_the_detector(example):
    levels = example.jets(key=jax.random.key(0), events=10_000)
    truth = example.histogram(levels.truth[:, 2], 2)
    found = example.ibu(levels, 2, 5)
    np.testing.assert_allclose(found.sum(), truth.sum(), rtol=0.01)
    before = example.distance(example.histogram(levels.gen[:, 2], 2), truth)
    assert example.distance(found, truth) < 0.5 * before


@pytest.mark.slow
def test_multifold_beats_ibu_in_the_mass(example):
    found = example.run(seed=0, **example.REDUCED)
    assert found["MultiFold"][0] < found["IBU"][0]
    assert found["MultiFold AUC"] < 0.54 < found["prior AUC"]
