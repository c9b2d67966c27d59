"""A small run of the rotating Gaussians, and what does not need a training."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "paper_examples" / "uncertainty_aware"

pytestmark = [
    pytest.mark.paper,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no paper_examples in this checkout"),
]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("uncertainty_aware_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_auc_of_the_exact_classifiers(example):
    test = example.gaussians(jax.random.key(0), events=50_000)
    nominal = lambda x: jnp.sum(x, axis=1, keepdims=True)  # noqa: E731
    _, best = example.known_angle()
    assert best == pytest.approx(0.97832, abs=1e-5)
    assert example.auc(nominal, test, np.pi / 4) == pytest.approx(best, abs=2e-3)
    assert example.auc(nominal, test, np.pi / 2) == pytest.approx(0.92344, abs=3e-3)
    aware = lambda x: x[:, 1:2]  # the classifier at pi/2  # noqa: E731
    assert example.auc(aware, test, np.pi / 2) == pytest.approx(best, abs=2e-3)


@pytest.mark.slow
def test_an_aware_network_pays_off_the_nominal_angle(example):
    found = example.run(**example.REDUCED)
    methods = found["methods"]
    sigma = {name: rows["sigma"]["signal"] for name, rows in methods.items()}
    assert sigma["aware"]["pi/2"][0] < 0.8 * sigma["nominal"]["pi/2"][0]
    # no observable can beat the unbinned likelihood with a known angle
    assert all(v[0] > 0.97 * found["known_angle"] for rows in sigma.values() for v in rows.values())
    assert methods["aware"]["auc"]["shifted"][0] > 0.95


def test_expected_values(example):
    expected = json.loads((FOLDER / "expected.json").read_text())
    published, methods = expected["published"], expected["methods"]
    mean = {name: {k: np.mean(v) for k, v in methods[name]["auc"].items()} for name in methods}
    assert mean["nominal"]["nominal"] == pytest.approx(published["nominal"], abs=2e-3)
    assert mean["nominal"]["shifted"] == pytest.approx(published["shifted"], abs=2e-3)
    assert mean["aware"]["shifted"] == pytest.approx(published["aware"], abs=2e-3)
    assert len(methods["aware"]["auc"]["shifted"]) >= 3
    edge = {
        name: np.mean(next(iter(rows["sigma"].values()))["pi/2"]) for name, rows in methods.items()
    }
    assert edge["aware"] < edge["limit"] < 0.7 * edge["nominal"]
