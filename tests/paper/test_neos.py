"""Small runs of the NEOS example: training on CLs must pay, in hard bins on test events."""

from __future__ import annotations

import pytest

EXAMPLE = "neos"

pytestmark = pytest.mark.paper


@pytest.mark.slow
def test_training_on_cls_beats_cross_entropy(example):
    run = example.run
    found = run.run(("CLs", "BCE"), bins=(5,), **run.REDUCED)
    rows = found["rows"]
    equal, equal_signal = rows["5 bins, BCE, equal"], rows["5 bins, BCE, equal-signal"]
    for kernel in run.KERNELS:
        trained = rows[f"5 bins, CLs, {kernel}"]
        assert max(trained["CLs"]) < 0.3 * min(equal["CLs"])
        assert max(trained["CLs"]) < min(equal_signal["CLs"])
        # 20 signal events: nothing can be below 1 / sqrt(20)
        assert min(trained["sigma_mu"]) > 20**-0.5


def test_no_row_undercuts_the_exact_densities(example):
    bound = example.problem.exact_sigma()
    assert bound == pytest.approx(example.problem.exact_sigma(cells=200), rel=1e-4)
    assert bound > 20**-0.5  # separation without background
    expected = example.expected
    for row in expected["medians"].values():
        assert row["sigma_mu"] > 0.999 * bound  # test events fluctuate


def test_expected_values(example, run):
    expected = example.expected
    medians, rows = expected["medians"], expected["rows"]
    for name, values in rows.items():
        for metric, numbers in values.items():
            assert len(numbers) >= 7
            middle = example.run.quantiles(numbers)[1]
            assert medians[name][metric] == pytest.approx(middle, rel=1e-3)
    targets = {  # the best of the thesis, each trained for itself
        "5 bins, CLs": ("CLs", 5.8e-7),
        "5 bins, sigma_mu": ("sigma_mu", 0.259),
        "5 bins, p0": ("p0", 2.9e-9),
        "20 bins, CLs": ("CLs", 3.6e-7),
    }
    for name, (metric, target) in targets.items():
        for kernel in example.run.KERNELS:
            assert None not in rows[f"{name}, {kernel}"][metric]
            assert medians[f"{name}, {kernel}"][metric] <= target
    for bins in (5, 20):
        # the double sigmoid handicaps the published baseline
        proper, published = (
            medians[f"{bins} bins, {loss}, equal"] for loss in ("BCE", "BCE, double sigmoid")
        )
        assert proper["CLs"] < published["CLs"]
