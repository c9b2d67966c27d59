from __future__ import annotations

import json

import numpy as np
import pytest

EXAMPLE = "omnifold_gaussian"

pytestmark = pytest.mark.paper


def test_expected_values_follow_the_closed_form(example, run):
    expected = example.expected
    assert expected["exact"] == json.loads(json.dumps(run.exact()))
    # the table of the reference, quoted to four digits
    assert expected["exact"]["minimal"]["1"] == pytest.approx([0.0562, 0.9089], abs=1e-4)
    assert expected["exact"]["blurred"]["5"] == pytest.approx([0.1335, 0.9827], abs=1e-4)
    for seed in expected["recursion"].values():
        for toy, rows in seed["mlp"].items():
            for iteration, found in rows.items():
                assert found == pytest.approx(expected["exact"][toy][iteration], abs=0.01)


def test_the_full_toy_and_the_one_with_acceptance_close(example, run):
    expected, ideal = example.expected, run.exact_acceptance()
    for missed, rows in ideal.items():
        for iteration, row in rows.items():
            found = expected["exact_acceptance"][missed][iteration]
            np.testing.assert_allclose(found, row, atol=1e-9)
    # many ideal iterations end at the truth
    np.testing.assert_allclose(ideal["learned"]["5"], (0, 2, 1), atol=1e-4)
    np.testing.assert_allclose(ideal["prior"]["15"], (0, 2, 1), atol=2e-3)
    # statistical errors by the data: 0.014, 0.010 and 0.007
    for seed in expected["acceptance"].values():
        for missed, rows in ideal.items():
            for iteration, wanted in rows.items():
                error = np.subtract(seed[missed][iteration], wanted)
                assert (abs(error) < (0.04, 0.03, 0.02)).all()
    for seed in expected["full"].values():
        for name in ("subtract", "reweight", "add"):
            np.testing.assert_allclose(seed[name], (0.2, 0.8, 1.0), atol=0.02)


def test_bootstraps_cover(example):
    expected = example.expected["coverage"]
    for seed in expected.values():
        assert seed["coverage"] == pytest.approx(np.mean(np.abs(seed["pulls"]) < 1), abs=1e-9)
    pulls = np.concatenate([np.asarray(seed["pulls"]) for seed in expected.values()])
    assert pulls.shape == (50, 10)
    # the bins of an experiment are correlated, the experiments are not
    covered = np.mean(np.abs(pulls) < 1, axis=1)
    error = covered.std(ddof=1) / np.sqrt(50)
    assert error < 0.025
    assert abs(covered.mean() - 0.6827) < 2 * error
    assert abs(pulls.std() - 1) < 0.1
    assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(50)


@pytest.mark.slow
def test_reduced_recursion(run):
    found = run.recursion(seed=0, **run.REDUCED["recursion"])["quadratic"]
    for toy, rows in run.exact().items():
        for iteration, wanted in rows.items():
            np.testing.assert_allclose(found[toy][iteration], wanted, atol=0.025)
