"""A small run of the jet unfolding, and what the full one found."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

EXAMPLE = "omnifold_jets"

pytestmark = pytest.mark.paper


def test_expected_values_meet_the_targets(example, run):
    expected = example.expected
    found = expected["summary"]
    assert len(expected["seeds"]) >= 3
    assert found == json.loads(json.dumps(run.summary(expected["seeds"])))
    assert all(found["MultiFold at least as good as IBU"])
    assert found["MultiFold AUC"]["mean"] <= 0.52
    # no better than perfect classifiers, and the test sees nothing where there is nothing
    ideal = run.ideal_auc(expected["options"]["iterations"])
    assert expected["ideal AUC"] == pytest.approx(ideal, abs=5e-5)
    error = np.hypot(found["MultiFold AUC"]["sd"], found["truth AUC"]["sd"]) / np.sqrt(3)
    assert ideal - 3 * error < found["MultiFold AUC"]["mean"] < ideal + 0.005
    assert abs(found["truth AUC"]["mean"] - 0.5) < 3 * found["truth AUC"]["sd"] / np.sqrt(3)


def test_the_untrained_rows_are_found_again(example, run):
    """What needs no network: data and simulation against the truth, of the jets of seed 0."""
    expected = example.expected
    sizes = {name: expected["options"][name] for name in ("events", "measured")}
    levels = run.jets(key=jax.random.key(0), **sizes)
    truth = [run.histogram(levels.truth[:, i], i) for i in range(6)]
    for name, events in (("data", levels.data), ("prior", levels.gen)):
        found = [run.distance(run.histogram(events[:, i], i), truth[i]) for i in range(6)]
        np.testing.assert_allclose(found, expected["seeds"]["0"][name], rtol=1e-6)


def test_ideal_iterations_converge(run):
    found = [run.ideal_auc(k, draws=50_000) for k in (0, 3, 8)]
    np.testing.assert_allclose(found, [0.663, 0.536, 0.505], atol=0.005)


def test_ibu_undoes_the_detector(run):
    levels = run.jets(key=jax.random.key(0), events=10_000)
    truth = run.histogram(levels.truth[:, 2], 2)
    found = run.ibu(levels, 2, 5)
    np.testing.assert_allclose(found.sum(), truth.sum(), rtol=0.01)
    before = run.distance(run.histogram(levels.gen[:, 2], 2), truth)
    assert run.distance(found, truth) < 0.5 * before


@pytest.mark.slow
def test_multifold_beats_ibu_in_the_mass(run):
    found = run.run(seed=0, **run.REDUCED)
    assert found["MultiFold"][0] < found["IBU"][0]
    assert found["MultiFold AUC"] < 0.54 < found["prior AUC"]
