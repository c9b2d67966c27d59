"""Limits and regions by toys against closed forms, asymptotics and published tables."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import optimize, stats

from difana._errors import ConfigError, ModelError
from difana.infer import feldman_cousins, toy_upper_limit
from difana.infer.toys.toy_limit import _crossing

ONE = jax.devices()[:1]
SEED = jax.random.key(21)
GRID = np.linspace(0.3, 3.3, 16)


def exact_limit(count, signal, background):
    def excess(mu):
        total = stats.poisson.cdf(count, signal * mu + background)
        return total / stats.poisson.cdf(count, background) - 0.05

    return optimize.brentq(excess, 1e-3, 50)


@pytest.fixture(scope="module")
def counting(two_bins):
    return two_bins([4.0, 0.0], [3.0, 1.0], [0.0, 0.0])


def test_counting_experiment(counting):
    """CLs of few events is a ratio of two Poisson sums, the expected band too."""
    found = toy_upper_limit(
        counting, counting.data([4.0, 1.0]), number=3000, key=SEED, grid=GRID, devices=ONE
    )
    assert abs(found.observed - exact_limit(4, 4.0, 3.0)) < 4 * found.observed_error
    assert 0 < found.observed_error < 0.1
    # the counts at -1 .. 2 standard deviations of a Poisson of mean 3 (at -2 there is no event)
    for n, count in zip((1, 2, 3), (1, 3, 5), strict=True):
        exact = exact_limit(count, 4.0, 3.0)
        assert abs(found.expected[n] - exact) < 4 * found.expected_error[n] + 0.02
    assert found.cls.shape == GRID.shape
    assert found.expected_cls.shape == (16, 5)
    assert np.all(np.abs(found.cls - stats.poisson.cdf(4, 4 * GRID + 3) / stats.poisson.cdf(4, 3))
                  < 4.5 * found.cls_error)  # fmt: skip
    assert found.failed == 0


def test_gaussian_limit(two_bins):
    """Many events: CLs = [1 - Phi((mu - mu-hat) / sigma)] / Phi(mu-hat / sigma)."""
    model = two_bins([150.0, 0.0], [10_000.0, 1.0], [0.0, 0.0])
    found = toy_upper_limit(
        model, model.data([10_060.0, 1.0]), number=3000, key=SEED, grid=GRID / 1.2, devices=ONE
    )

    def limit(count):
        def excess(mu):
            upper = stats.norm.cdf((count - 150 * mu - 10_000) / np.sqrt(10_000 + 150 * mu))
            return upper / stats.norm.cdf((count - 10_000) / 100) - 0.05

        return optimize.brentq(excess, 0.01, 10)

    assert abs(found.observed - limit(10_060)) < 4 * found.observed_error + 0.01
    for n in (1, 2, 3):
        exact = limit(10_000 + 100 * (n - 2))
        assert abs(found.expected[n] - exact) < 4 * found.expected_error[n] + 0.01
    assert found.ok


def test_grids_that_do_not_reach(counting):
    found = toy_upper_limit(counting, number=100, key=SEED, grid=GRID / 30, devices=ONE)
    assert found.observed is None
    assert np.isnan(found.median)
    assert not found.ok
    assert "no limit" in found.message
    for grid in ([1.0], [0.0, 1.0], [1.0, np.inf]):
        with pytest.raises(ConfigError, match="two different positive"):
            toy_upper_limit(counting, number=100, key=SEED, grid=grid)
    with pytest.raises(ConfigError, match="level"):
        toy_upper_limit(counting, number=100, key=SEED, level=95)


def test_crossing():
    grid = np.linspace(0.5, 3, 11)
    cls = 2 * stats.norm.sf(grid)
    root, error = _crossing(grid, cls, 0.01 * cls, 0.05)
    assert root == pytest.approx(1.96, abs=0.004)
    # independent errors of 1 %, slope -mu: one point alone would give 0.01 / 2.3
    assert 0.001 < error < 0.0045
    pair = _crossing(grid[[5, 6]], cls[[5, 6]], 0.01 * cls[[5, 6]], 0.05)
    assert pair[0] == pytest.approx(1.96, abs=0.02)
    assert np.isnan(_crossing(grid, cls + 1, cls, 0.05)[0])
    assert np.isnan(_crossing(grid, 0 * cls, cls, 0.05)[0])


# arXiv:physics/9711021, table IV, 90 % CL, background 3.0; that of no event is raised there so
# that it does not rise with the background
TABLE = {1: 1.88, 2: 3.04, 3: 4.42, 4: 5.60, 5: 6.99}
MUS = np.linspace(0.0, 8.0, 17)


def exact_share(count, mu, background):
    """Return the probability of counts that the ordering of the paper ranks no better."""
    n = np.arange(100)
    rank = stats.poisson.logpmf(n, mu + background)
    rank = rank - stats.poisson.logpmf(n, np.maximum(n, background))
    return np.sum(stats.poisson.pmf(n, mu + background)[rank <= rank[count] + 1e-9])


@pytest.mark.parametrize("count", range(6))
def test_feldman_cousins(two_bins, count):
    model = two_bins([1.0, 0.0], [3.0, 1.0], [0.0, 0.0])
    data = model.data([float(count), 1.0])
    found = feldman_cousins(model, data, {"mu": MUS}, number=2000, key=SEED, devices=ONE)
    exact = np.array([exact_share(count, mu, 3.0) for mu in MUS])
    assert np.all(np.abs(found.p_value - exact) < 4.5 * np.sqrt(exact / 2000))
    clear = ~found.uncertain
    np.testing.assert_array_equal(found.accepted[clear], exact[clear] > 0.1)
    assert found.interval[0] == 0.0
    if count:
        accepted = found.accepted | found.uncertain
        inside = TABLE[count] - 0.5 < found.interval[1] < TABLE[count] + 0.5
        assert inside or (found.uncertain & accepted).any()
    assert found.best[0] == pytest.approx(max(count - 3.0, 0.0), abs=1e-5)
    assert found.failed.sum() == 0


def test_regions_and_questions(two_bins):
    model = two_bins([1.0, 0.0], [3.0, 1.0], [0.0, 0.0])
    data = model.data([5.0, 1.0])
    short = feldman_cousins(model, data, {"mu": MUS / 8}, number=100, key=SEED, devices=ONE)
    assert not short.ok  # the region goes on beyond the grid
    with pytest.raises(ModelError, match="is constrained"):
        feldman_cousins(model, data, {"unc[0]": [1.0]}, key=SEED)
    with pytest.raises(ModelError, match="no parameter 'm'"):
        feldman_cousins(model, data, {"m": [1.0]}, key=SEED)
    for grid in ({}, {"mu": []}, {"mu": [np.nan]}):
        with pytest.raises(ConfigError):
            feldman_cousins(model, data, grid, key=SEED)
    with pytest.raises(ConfigError, match="level"):
        feldman_cousins(model, data, {"mu": [1.0]}, key=SEED, level=90)
