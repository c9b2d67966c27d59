"""A small run of the jet unfolding, and what the full one found."""

from __future__ import annotations

import importlib.util
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
    assert found["MultiFold AUC"] < found["prior AUC"]
