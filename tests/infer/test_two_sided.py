"""Two-sided statistics against closed forms of a counting experiment."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy import stats

from difana._errors import ModelError
from difana.infer import tmu, tmu_p_value, tmu_tilde, tmu_tilde_p_value
from difana.likelihood import Channel, NormFactor, Parameter, Template, build_model

S, B = 10.0, 50.0


@pytest.fixture(scope="module")
def model():
    templates = (
        Template([S], (NormFactor("mu"),), name="signal"),
        Template([B], name="background"),
    )
    parameters = [Parameter("mu", bounds=((-4.0, 10.0),))]
    return build_model([Channel(templates, name="SR")], parameters=parameters)


@pytest.fixture(scope="module")
def both():
    """Both statistics, and the gradient of the second one in the data: one program."""

    def run(model, data, mu):
        gradient, found = jax.grad(
            lambda d: (lambda r: (r.value, r))(tmu_tilde(model, d, mu=mu)), has_aux=True
        )(data)
        return tmu(model, data, mu=mu, free=None).value, found, gradient

    return eqx.filter_jit(run)


def ratio(n, mu, best):
    one, other = S * mu + B, S * best + B
    return 2 * (one - other - n * np.log(one / other))


@pytest.mark.parametrize(("count", "mu"), [(70.0, 1.0), (55.0, 1.0), (41.0, 0.5), (50.0, 0.0)])
def test_closed_form(model, both, count, mu):
    best = (count - B) / S
    two, tilde, gradient = both(model, model.data(np.array([count])), np.array(mu))
    np.testing.assert_allclose(two, ratio(count, mu, best), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(tilde.value, ratio(count, mu, max(best, 0)), rtol=1e-8, atol=1e-10)
    assert tilde.free.params[0] == pytest.approx(max(best, 0.0), abs=1e-6)
    slope = -2 * np.log((S * mu + B) / (S * max(best, 0) + B))  # d(ratio)/dn at fixed best fit
    np.testing.assert_allclose(gradient[0], slope, rtol=1e-5, atol=1e-6)


def test_p_values():
    root = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(tmu_p_value(root**2), 2 * stats.norm.sf(root), rtol=1e-10)
    # below mu^2 / sigma^2 the two agree; the p-value is continuous there and falls beyond
    np.testing.assert_allclose(
        tmu_tilde_p_value(root[:4] ** 2, 4.0), tmu_p_value(root[:4] ** 2), rtol=1e-10
    )
    beyond = np.asarray(tmu_tilde_p_value(np.array([4.0, 4.0 + 1e-9, 6.0, 9.0]), 4.0))
    assert beyond[0] == pytest.approx(beyond[1], abs=1e-8)
    assert np.all(np.diff(beyond[1:]) < 0)
    # at mu = 0 every upward fluctuation counts, and no other
    np.testing.assert_allclose(tmu_tilde_p_value(root[1:] ** 2, 0.0), stats.norm.sf(root[1:]))
    # mu-hat ~ N(mu, 1) at mu = 1: t-tilde by drawing it
    rng = np.random.default_rng(1)
    hat = rng.normal(1.0, 1.0, 200_000)
    drawn = np.where(hat >= 0, (hat - 1) ** 2, 1.0 - 2 * hat)
    for t in (0.5, 2.0, 4.0):
        share = np.mean(drawn >= t)
        assert abs(share - tmu_tilde_p_value(t, 1.0)) < 4 * np.sqrt(share / drawn.size)


def test_bounds_are_checked(two_bins):
    model = two_bins([1.0], [5.0], [0.0])
    with pytest.raises(ModelError, match="may be negative"):
        tmu(model, model.data([5.0]), mu=1.0)
