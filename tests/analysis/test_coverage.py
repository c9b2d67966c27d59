"""Coverage by toys against closed forms, and against the limits that it does not search."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy import stats

from difana._errors import ConfigError, ModelError
from difana.analysis import coverage
from difana.analysis.coverage import _truth
from difana.infer import sample_data, upper_limit
from difana.likelihood import Channel, NormFactor, Parameter, ShapeSys, Template, build_model

ONE = jax.devices()[:1]
S, B = 8.0, 20.0
KEY = jax.random.key(5)
MUS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def model():
    """One bin that matters and one that measures a nuisance without influence on it."""
    signal = Template([S, 0.0], (NormFactor("mu"),), name="signal")
    background = Template([B, 30.0], (ShapeSys([0.0, 3.0], "unc"),), name="background")
    lower = [Parameter("mu", bounds=((-2.0, 20.0),))]
    return build_model([Channel((signal, background), name="SR")], parameters=lower)


@pytest.fixture(scope="module")
def result(model):
    return coverage(model, mu=MUS, number=1500, key=KEY, truth={"unc[1]": 1.1}, devices=ONE)


def cls_of_counts(n, mu):
    """Return the asymptotic CLs and CLs+b of q-tilde for observed counts."""

    def half(count, mean):
        return mean - count + stats_xlogy(count, count / mean)

    best = np.maximum((n - B) / S, 0.0)
    q = np.where(best <= mu, 2 * (half(n, mu * S + B) - half(n, best * S + B)), 0.0)
    qa = 2 * half(B, mu * S + B)
    q = np.maximum(q, 0.0)
    shift = np.where(q <= qa, np.sqrt(q) - np.sqrt(qa), (q - qa) / (2 * np.sqrt(qa) + 1e-300))
    clsb, clb = stats.norm.sf(shift + np.sqrt(qa)), stats.norm.sf(shift)
    return clsb / clb, clsb


def stats_xlogy(n, ratio):
    return np.where(n > 0, n * np.log(np.where(n > 0, ratio, 1.0)), 0.0)


def exact_coverage(mu, *, protected=True):
    n = np.arange(400.0)
    p = cls_of_counts(n, mu)[0 if protected else 1]
    return np.sum(stats.poisson.pmf(n, mu * S + B)[p >= 0.05])


def test_counting_experiment(result):
    assert result.ok, result.message
    assert result.coverage[0] == 1.0  # CLs of no signal is 1
    for row, mu in enumerate(MUS):
        exact = exact_coverage(mu)
        assert abs(result.coverage[row] - exact) < 4 * np.sqrt(exact * (1 - exact) / 1500) + 1e-9
        assert result.coverage_error[row] < 0.01


def test_every_toy_has_the_cls_of_its_counts(model, result):
    """The toys are those of sample_data; the nuisance was drawn at its truth, without effect."""
    params = np.array(model.init)
    params[model.index("mu")], params[model.index("unc[1]")] = 1.0, 1.1

    @jax.jit
    def draw(toy):
        own = jax.random.fold_in(jax.random.fold_in(KEY, 2), toy)
        return sample_data(model, params, key=own, number=1)[0]

    data = np.asarray(jax.vmap(draw)(np.arange(40)))
    assert result.p_value[2, :40] == pytest.approx(cls_of_counts(data[:, 0], 1.0)[0], rel=1e-6)
    assert result.best[2, :40] == pytest.approx((data[:, 0] - B) / S, abs=1e-6)
    assert result.sigma[2, :40] == pytest.approx(np.sqrt(data[:, 0]) / S, rel=1e-5)
    assert data[:, 1].mean() == pytest.approx(33.0, abs=4 * np.sqrt(33 / 40))
    assert _truth(model, {"unc[1]": 1.1})[model.index("unc[1]")] == 1.1


def test_a_test_of_the_truth_replaces_the_search_for_the_limit(model):
    """limit >= mu exactly where CLs(mu) >= 0.05."""
    limit = eqx.filter_jit(lambda data: upper_limit(model, data).observed)
    counts = np.arange(8.0, 40.0)
    found = np.array([limit(model.data([n, 30.0])) for n in counts])
    for mu in (0.6, 1.0, 1.7):
        assert ((found >= mu) == (cls_of_counts(counts, mu)[0] >= 0.05)).all()
        assert 0 < np.sum(found >= mu) < len(counts)


def test_bias_and_pulls(result):
    """The best fit is linear in the count: no bias; moments of the pulls are known."""
    assert np.all(np.abs(result.bias) < 4 * result.bias_error)
    n = np.arange(1.0, 400.0)
    for row, mu in enumerate(MUS):
        weights = stats.poisson.pmf(n, mu * S + B)
        pull = (n - mu * S - B) / np.sqrt(n)
        mean, square = np.sum(weights * pull), np.sum(weights * pull**2)
        spread = np.sqrt((square - mean**2) / 1500)
        assert abs(result.mean_pull[row] - mean) < 4 * spread
        assert abs(result.chi2[row] - square) < 4 * np.sqrt(3 / 1500)
        assert abs(result.pull_width[row] - np.sqrt(square - mean**2)) < 4 / np.sqrt(3000)
    assert np.all((result.chi2_p_value >= 0) & (result.chi2_p_value <= 1))
    assert np.all(result.at_bound == 0)


def test_toys_do_not_depend_on_chunks_or_on_the_other_values(model, result):
    same = {"key": KEY, "truth": {"unc[1]": 1.1}, "devices": ONE}
    again = coverage(model, mu=MUS, number=100, chunk=256, **same)
    assert again.p_value == pytest.approx(result.p_value[:, :100], rel=1e-9)


def test_numbers_of_a_result():
    """Without fits: failures, bounds, the ends of the range."""
    from difana.analysis.coverage import CoverageResult

    p = np.array([[0.01, 0.2, 0.3, 0.9], [0.5, 0.5, 0.5, 0.5]])
    best = np.array([[1.0, 3.0, 0.0, 9.0], [0.0, 0.5, 0.0, 0.0]])
    sigma = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.5, 0.0, 0.0]])
    status = np.array([[0, 0, 0, 1], [8, 0, 8, 8]])
    found = CoverageResult(np.array([1.0, 0.0]), p, best, sigma, status, 0.95, "limit")
    assert found.failed.tolist() == [1, 0]
    assert not found.ok
    assert "1 of 8 toys failed" in found.message
    assert found.coverage == pytest.approx([2 / 3, 1.0])
    assert found.at_bound == pytest.approx([0.0, 0.75])
    assert found.bias == pytest.approx([1 / 3, 0.125])
    assert found.mean_pull[0] == pytest.approx(1 / 3)
    assert np.isnan(found.mean_pull[1])  # a bound cuts the pulls
    assert np.isnan(found.chi2_p_value[1])
    assert found.chi2[0] == pytest.approx(5 / 3)
    assert found.chi2_p_value[0] == pytest.approx(2 * stats.chi2.sf(5, 3))
    assert np.all(found.coverage_error > 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clsb", "interval"])
def test_other_kinds(model, kind):
    found = coverage(model, mu=[0.0, 1.0], number=4000, key=KEY, kind=kind, devices=ONE)
    n = np.arange(400.0)
    half = lambda c, mean: mean - c + stats_xlogy(c, c / mean)  # noqa: E731
    if kind == "clsb":
        exact = [1.0, exact_coverage(1.0, protected=False)]
    else:
        t0 = 2 * (half(n, B) - half(n, np.maximum(n, B)))
        none = np.sum(stats.poisson.pmf(n, B)[stats.norm.sf(np.sqrt(np.maximum(t0, 0))) >= 0.05])
        t1 = np.maximum(2 * (half(n, S + B) - half(n, np.maximum(n, B))), 0.0)
        qa = 2 * half(B, S + B)
        far = (t1 + qa) / (2 * np.sqrt(qa))
        second = np.where(t1 <= qa, np.sqrt(t1), far)
        p = stats.norm.sf(np.sqrt(t1)) + stats.norm.sf(second)
        exact = [none, np.sum(stats.poisson.pmf(n, S + B)[p >= 0.05])]
    for row, value in enumerate(exact):
        assert abs(found.coverage[row] - value) < 4 * np.sqrt(value * (1 - value) / 4000) + 1e-9
    if kind == "interval":
        assert exact[0] == pytest.approx(0.95, abs=0.02)


def test_wrong_questions_are_refused(model):
    with pytest.raises(ConfigError, match="at least one toy"):
        coverage(model, number=0, key=KEY)
    with pytest.raises(ConfigError, match="level = 1"):
        coverage(model, number=5, key=KEY, level=1.0)
    with pytest.raises(ConfigError, match="not negative"):
        coverage(model, mu=[-1.0], number=5, key=KEY)
    with pytest.raises(ConfigError, match="choose one of"):
        coverage(model, number=5, key=KEY, kind="both")
    with pytest.raises(ModelError, match="Did you mean 'unc"):
        coverage(model, number=5, key=KEY, truth={"unc[7]": 1.0})
    with pytest.raises(ModelError, match="parameter of interest"):
        coverage(model, number=5, key=KEY, truth={"mu": 1.0})
