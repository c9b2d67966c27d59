"""Counting experiments have closed forms; extreme ones tell what they are."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from difana.infer import Status, describe, trustworthy
from difana.infer.limit import _observed_height


def deviance(n, rate):
    """Return -2 ln of the Poisson density of n over its maximum, without cancellation."""
    if n == 0:
        return 2 * rate
    x = (rate - n) / n
    return 2 * n * (x - np.log1p(x)) if abs(x) > 1e-4 else n * x**2 * (1 - 2 * x / 3 + x**2 / 2)


def q_tilde(mu, s, b, n):
    best = max((n - b) / s, 0.0)
    return 0.0 if best > mu else max(deviance(n, mu * s + b) - deviance(n, best * s + b), 0.0)


def log_cls(mu, s, b, n):
    q, q_asimov = q_tilde(mu, s, b, n), q_tilde(mu, s, b, b)
    root, root_asimov = np.sqrt(q), np.sqrt(q_asimov)
    if root <= root_asimov:
        return stats.norm.logsf(root) - stats.norm.logsf(root - root_asimov)
    ends = (q + q_asimov) / (2 * root_asimov), (q - q_asimov) / (2 * root_asimov)
    return stats.norm.logsf(ends[0]) - stats.norm.logsf(ends[1])


def expected_limit(s, b, band):
    target = band + stats.norm.isf(0.05 * stats.norm.cdf(band))
    return optimize.brentq(
        lambda mu: np.sqrt(q_tilde(mu, s, b, b)) - target,
        1e-12 / s,
        20 * np.sqrt(b + 9) / s,
        xtol=1e-15 / s,
    )


@pytest.mark.parametrize(
    ("s", "b", "n"),
    [
        (10.0, 50.0, 50.0),
        (10.0, 50.0, 57.0),
        (10.0, 50.0, 90.0),  # the best fit lies above the tested value
        (10.0, 50.0, 30.0),  # deficit: the best fit is zero
        (10.0, 50.0, 0.0),
        (3.0, 0.01, 0.0),
        (0.1, 50.0, 60.0),  # best fit 100 and limits of 100, far beyond the bound of 10
        (1e-6, 50.0, 55.0),
        (1e6, 50.0, 55.0),
        (1e4, 1e8, 1.0001e8),
    ],
)
def test_counting_experiment(counting, s, b, n):
    result = counting(s, b, 0.0, n)
    best = (n - b) / s
    np.testing.assert_allclose(result["fit"].params[0], np.clip(best, 0.0, 10.0), atol=1e-7)
    if 0 < best < 10:
        np.testing.assert_allclose(result["fit"].uncertainties[0], np.sqrt(n) / s, rtol=1e-7)
    tested = result["cls"]
    np.testing.assert_allclose(tested.q, q_tilde(1.0, s, b, n), atol=1e-6, rtol=1e-8)
    np.testing.assert_allclose(
        tested.observed, np.exp(log_cls(1.0, s, b, n)), rtol=1e-6, atol=1e-12
    )
    root = np.sqrt(q_tilde(1.0, s, b, b))
    band = np.arange(-2.0, 3.0)
    np.testing.assert_allclose(
        tested.expected, stats.norm.sf(root - band) / stats.norm.cdf(band), rtol=1e-6, atol=1e-12
    )
    z = result["significance"]
    observed = np.sqrt(deviance(n, b)) if n > b else 0.0
    np.testing.assert_allclose(z.observed, observed, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(z.observed_p, stats.norm.sf(observed), rtol=1e-5)
    np.testing.assert_allclose(z.expected, np.sqrt(deviance(s + b, b)), rtol=1e-6, atol=1e-6)
    limit = result["limit"]
    np.testing.assert_allclose(limit.expected, [expected_limit(s, b, i) for i in band], rtol=2e-7)
    scale = max(best, 0.0) + np.sqrt(max(n, b) + 4) / s
    exact = optimize.brentq(
        lambda mu: log_cls(mu, s, b, n) - np.log(0.05), 1e-3 * scale, 20 * scale, xtol=1e-15 * scale
    )
    np.testing.assert_allclose(limit.observed, exact, rtol=1e-6)
    for part in result.values():
        assert bool(trustworthy(part.status)), describe(part.status)


def test_uncertain_background_with_one_auxiliary_measurement(counting):
    # n ~ Pois(mu s + g b), m ~ Pois(tau g) with tau = (b / u)^2: the on-off problem
    s, b, u, n = 10.0, 50.0, 5.0, 65.0
    tau = (b / u) ** 2
    result = counting(s, b, u, n)
    np.testing.assert_allclose(result["fit"].params[:2], [1.5, 1.0], rtol=1e-8)
    # error propagation of mu = (n - m b / tau) / s
    np.testing.assert_allclose(
        result["fit"].uncertainties[:2],
        [np.sqrt(n + tau * (b / tau) ** 2) / s, 1 / np.sqrt(tau)],
        rtol=1e-7,
    )
    g = (n + tau) / (b + tau)  # best fit without signal
    q0 = 2 * (n * np.log(n / (g * b)) + tau * np.log(1 / g))
    np.testing.assert_allclose(result["significance"].observed, np.sqrt(q0), rtol=1e-7)


def test_two_bins_combine(counting):
    # equal s/b: the sum of the bins is a counting experiment
    split = counting([4.0, 6.0], [20.0, 30.0], [0.0, 0.0], [21.0, 34.0])
    joint = counting(10.0, 50.0, 0.0, 55.0)
    for ours, theirs in (("limit", "observed"), ("cls", "observed"), ("significance", "observed")):
        np.testing.assert_allclose(
            getattr(split[ours], theirs), getattr(joint[ours], theirs), rtol=1e-7
        )
    np.testing.assert_allclose(split["limit"].expected, joint["limit"].expected, rtol=1e-9)


def test_no_background(counting):
    # q_A = 2 mu s, hence limits of target^2 / (2 s)
    result = counting(3.0, 0.0, 0.0, 0.0)
    band = np.arange(-2.0, 3.0)
    target = band + stats.norm.isf(0.05 * stats.norm.cdf(band))
    np.testing.assert_allclose(result["limit"].expected, target**2 / 6.0, rtol=1e-9)
    np.testing.assert_allclose(result["limit"].observed, target[2] ** 2 / 6.0, rtol=1e-9)
    assert bool(trustworthy(result["limit"].status))
    with_data = counting(3.0, 0.0, 0.0, 3.0)
    np.testing.assert_allclose(with_data["fit"].params[0], 1.0, rtol=1e-9)
    for part in (with_data["cls"].observed, with_data["limit"].observed):
        assert np.isfinite(part)


@pytest.mark.parametrize("relative", [1e-4, 1e-6, 1e-9])
def test_small_uncertainties_tend_to_none(counting, relative):
    without, tiny = counting(10.0, 50.0, 0.0, 52.0), counting(10.0, 50.0, 50.0 * relative, 52.0)
    np.testing.assert_allclose(tiny["limit"].observed, without["limit"].observed, rtol=2e-6)
    np.testing.assert_allclose(tiny["limit"].expected, without["limit"].expected, rtol=2e-6)
    np.testing.assert_allclose(tiny["cls"].q, without["cls"].q, rtol=2e-6)
    assert bool(trustworthy(tiny["limit"].status))


def flags(result):
    return {name: Status(int(part.status)) for name, part in result.items()}


def test_parameter_at_a_bound_does_no_harm(counting):
    found = flags(counting(10.0, 50.0, 5.0, 30.0))
    assert set(found.values()) == {Status.AT_BOUND}


def test_a_model_without_signal_says_so(counting):
    result = counting(0.0, 50.0, 5.0, 60.0)
    found = flags(result)
    assert Status.NO_INFLUENCE in found["fit"]
    assert Status.NOT_BRACKETED in found["limit"]
    for name, status in found.items():
        assert not trustworthy(int(status)), name
    np.testing.assert_allclose(result["cls"].expected, 1.0, atol=1e-6)
    assert "no limit was found" in result["limit"].message
    assert "no influence" in result["fit"].message
    assert not result["limit"].ok
    assert not result["fit"].ok


@pytest.mark.parametrize(
    "numbers",
    [
        (10.0, 50.0, 5.0, np.nan),
        (10.0, np.nan, 5.0, 50.0),
        (np.nan, 50.0, 5.0, 50.0),
        (10.0, 50.0, np.nan, 50.0),
        (10.0, 50.0, 5.0, np.inf),
        (np.inf, 50.0, 5.0, 50.0),
    ],
)
def test_not_finite_numbers_are_never_trusted(counting, numbers):
    result = counting(*numbers)
    for name, part in result.items():
        finite = all(
            np.isfinite(getattr(part, field)).all()
            for field in ("params", "observed", "expected")
            if hasattr(part, field)
        )
        assert finite or not trustworthy(part.status), name
    if not np.isnan(numbers[2]):
        assert Status.NOT_FINITE in flags(result)["fit"]
        assert not result["limit"].ok


@pytest.mark.parametrize("uncertainty", [0.0, 5.0])
def test_negative_background_is_not_silently_wrong(counting, uncertainty):
    result = counting(10.0, -5.0, uncertainty, 5.0)
    for name in ("cls", "limit", "significance"):
        assert Status.NEGATIVE_YIELD in flags(result)[name], name
    assert "negative yield" in result["limit"].message
    np.testing.assert_allclose(result["fit"].params[0], 1.0, rtol=1e-9)


def test_a_best_fit_above_the_tested_value_does_not_count_against_it():
    """Below the best fit q is zero, so that CLs is 1/2 over that of the Asimov data alone."""
    numbers = [jnp.asarray(x) for x in ([2.0, 8.0], 1.0, 1.5)]  # q_A = 4; q = 14 would be left
    values, floor, best = numbers
    below = float(_observed_height(values, floor, best, jnp.asarray(1.4), 0.05))
    assert below == pytest.approx(np.log(0.05) - np.log(0.5 / stats.norm.cdf(2.0)), rel=1e-12)
    above = float(_observed_height(values, floor, best, jnp.asarray(1.6), 0.05))
    ends = (14 + 4) / 4, (14 - 4) / 4  # q above q_A
    exact = stats.norm.logsf(ends[0]) - stats.norm.logsf(ends[1])
    assert above == pytest.approx(np.log(0.05) - exact, rel=1e-10)
