"""The LHC Olympics example: what is written down, and a small run."""

from __future__ import annotations

import numpy as np
import pytest

EXAMPLE = "lhco"

pytestmark = pytest.mark.paper


def test_expected_values_are_consistent(example, run):
    """What the read-me says of the numbers that were measured."""
    report = example.report
    expected = example.expected
    assert list(expected["limits"]) == [f"{size:g}" for size in run.SIZES]
    for size, runs in expected["limits"].items():
        best, ratio, error = report.ratios([{"limits": limits} for limits in runs])
        assert best == expected["best_baseline"][size]
        assert ratio == pytest.approx(expected["ratio_of_means"][size], abs=1e-3)
        assert error == pytest.approx(expected["error_of_ratio"][size], abs=1e-3)
        # no worse than the best of all baselines, within the noise of the seeds
        assert ratio < 1 + 2 * error
        for limits, facts in zip(runs, expected["difana"][size], strict=True):
            # of three candidates the one with the lowest limit on validation events counts
            chosen = min(facts["validation"], key=facts["validation"].get)
            assert (chosen, facts["candidates"][chosen]) == (facts["chosen"], limits["difana"])
            assert limits["cross-entropy, best bins"] < limits["cross-entropy, uniform bins"]
    assert max(expected["largest_relative_difference_to_pyhf_cls"].values()) < 1e-6


def test_means_and_ratios_pair_the_seeds(example):
    """Closed form of the table's last line."""
    report = example.report
    ours, theirs = np.array([0.8, 1.0, 0.9]), np.array([1.0, 1.1, 1.2])
    runs = [{"limits": {"a": t, "b": 2.0, "difana": o}} for o, t in zip(ours, theirs, strict=True)]
    best, ratio, error = report.ratios(runs)
    assert (best, ratio) == ("a", pytest.approx(2.7 / 3.3))
    assert error == pytest.approx(np.std(ours - theirs, ddof=1) / 3**0.5 / 1.1)
    table = report.table({f"{i}-4": run for i, run in enumerate(runs)})
    assert "| difana | 0.9000 ± 0.0816 |" in table


def test_events_of_a_size_are_those_of_another_moved(run):
    rows = {"signal": np.random.default_rng(0).uniform(1, 2, (100, 6))}
    rows["background"] = rows["signal"].copy()
    none, full = (run.splits_of(rows, seed=1, size=size) for size in (0.0, 4.0))
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


def test_training_moves_the_events_as_the_templates_do(example, run):
    events = example.events
    rows = {"signal": np.random.default_rng(0).uniform(1, 2, (10, 6))}
    rows["background"] = rows["signal"].copy()
    (train, _, _) = run.splits_of(rows, seed=1, size=2.0)
    for sample, free in zip(train, events.moving(train, 2.0), strict=True):
        for shifted, scale in zip(sample.variations[:2], free.variations, strict=True):
            assert shifted.name == scale.name
            for alpha, side in ((1.0, shifted.up), (-1.0, shifted.down)):
                moved = scale.function(free.nominal.features, alpha)
                assert np.allclose(moved, side.features, rtol=1e-6)
    assert events.Scale(0, 1, 0.06) == events.Scale(0, 1, 0.06)  # shares compiled programs


@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0, 8.0])
def test_coverage_of_the_gaussian_limit(example, ratio):
    """Against limits of 200,000 Gaussian estimates."""
    from scipy.stats import norm

    estimate = np.random.default_rng(0).normal(ratio, 1.0, 200_000)
    limit = estimate + norm.isf(0.05 * norm.cdf(estimate))  # CLs, unit standard deviation
    expected = example.report.gaussian_coverage(ratio)
    assert np.mean(limit >= ratio) == pytest.approx(expected, abs=0.002)


def test_finished_methods_are_not_run_again(run, monkeypatch):
    """An interrupted run goes on where it was, method by method."""
    calls = []

    class Stub:
        def __init__(self, rows, seed, size, setup):
            self.size = size

        def train(self, name):
            calls.append((self.size, name))
            return name

        def limits(self, name, net):
            return {f"{net}, best bins": 1.0}

        def judged(self, net, edges, part):
            return 0.5

        def workspace(self, net, edges):
            return {}

    monkeypatch.setattr(run, "Analysis", Stub)
    monkeypatch.setattr(run, "train_limit", lambda one, net: (net, np.zeros(3), {}))
    results = {}
    for size, found in run.analyse({}, 0, (0.0, 1.0), {}, {}):
        results[f"0-{size:g}"] = found
    fixed, every = set(run.FIXED), set(run.METHODS)
    assert {name for size, name in calls if size} == every - fixed
    assert [name for size, name in calls if not size] == list(run.FIXED)
    calls.clear()
    assert not list(run.analyse({}, 0, (0.0, 1.0), results, {}))
    del results["0-1"]["limits"]["pivot, best bins"]
    assert len(list(run.analyse({}, 0, (0.0, 1.0), results, {}))) == 1
    assert calls == [(1.0, "pivot")]


@pytest.mark.slow
def test_a_small_run(run, data_dir):
    rows = run.load(data_dir / "lhco")
    *_, (size, found) = run.analyse(rows, 0, (4.0,), {}, run.REDUCED, ("augmented",))
    limits = found["limits"]
    assert size == 4.0
    assert found["status"] == "ok"
    assert limits["difana"] < limits["cross-entropy, quantile bins"]
    assert limits["cross-entropy, best bins"] < limits["cross-entropy, uniform bins"]
    assert len(found["validation"]) == 3
    assert limits["difana"] == pytest.approx(found["candidates"][found["chosen"]], rel=1e-4)
