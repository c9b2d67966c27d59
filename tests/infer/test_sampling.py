"""Pseudo-data follow the distributions of the model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from difana._errors import ConfigError
from difana.infer import sample_data
from difana.infer.toys.sampling import poisson
from difana.likelihood import (
    Channel,
    NormFactor,
    NormSys,
    Parameter,
    ShapeSys,
    Template,
    build_model,
)
from difana.likelihood.modifiers import Correlation

MEANS = (0.0, 0.3, 4.0, 9.9, 10.1, 35.0, 1e3, 1e6, 1e12, np.nan, -1.0)
NUMBER = 20_000


@pytest.fixture(scope="module")
def draws():
    keys = jax.random.split(jax.random.key(3), NUMBER)
    return np.asarray(jax.jit(jax.vmap(lambda key: poisson(key, jnp.array(MEANS))))(keys))


def test_poisson_moments(draws):
    mean, some = np.array(MEANS)[1:9], draws[:, 1:9]
    assert np.all(draws[:, 0] == 0)
    assert np.all(some == np.floor(some))
    assert np.all(np.abs(some.mean(0) - mean) < 4 * np.sqrt(mean / NUMBER))
    error = np.sqrt(mean * (1 + 2 * mean) / NUMBER)  # the fourth moment is mean (1 + 3 mean)
    assert np.all(np.abs(some.var(0) - mean) < 4 * error)


@pytest.mark.parametrize("place", range(1, 8))
def test_poisson_distribution(draws, place):
    exact = stats.poisson(MEANS[place])
    edges = np.unique(exact.ppf(np.linspace(0, 1, 12)[1:-1]))
    seen = np.diff(np.searchsorted(np.sort(draws[:, place]), edges, side="right"), prepend=0)
    seen = np.append(seen, NUMBER - seen.sum())
    shares = np.diff(np.append(exact.cdf(edges), 1.0), prepend=0)
    assert stats.chisquare(seen, shares / shares.sum() * NUMBER).pvalue > 1e-3


def test_means_without_a_distribution(draws):
    assert np.all(np.isnan(draws[:, 9]))
    assert np.all(draws[:, 10] == 0)


@pytest.fixture(scope="module")
def every_constraint():
    """Poisson, Gaussian (two correlated) and log-normal auxiliary data."""
    signal = Template([12.0, 3.0], (NormFactor("mu"), NormSys(1.1, 0.9, "a")), name="s")
    bkg = Template(
        [50.0, 4.0],
        (
            ShapeSys([5.0, 2.0], "u"),
            NormSys(1.2, 0.9, "b"),
            NormSys(1.1, 0.9, "c"),
            NormFactor("k"),
        ),
        name="b",
    )
    model = build_model(
        [Channel((signal, bkg), name="SR")],
        parameters=[Parameter("k", auxdata=1.0, sigma=0.3, constraint="lognormal")],
        correlations=[Correlation(("a", "c"), [[1.0, 0.7], [0.7, 1.0]])],
    )
    params = model.pack({"a": 0.5, "b": -0.3, "k": 1.2, "u[0]": 1.1})
    draw = jax.jit(lambda m, p, key: sample_data(m, p, key=key, number=NUMBER))
    return model, params, np.asarray(draw(model, params, jax.random.key(5)))


def test_main_and_auxiliary_data(every_constraint):
    model, params, draws = every_constraint
    s = model.structure
    auxiliary = {
        name: draws[:, model.bins + list(s.constrained).index(model.index(name))]
        for name in ("a", "b", "c", "k", "u[0]", "u[1]")
    }
    rates = np.asarray(model.expected_main(params))
    for got, rate in (
        (draws[:, 0], rates[0]),
        (draws[:, 1], rates[1]),
        (auxiliary["u[0]"], 1.1 * 100.0),  # tau = (50 / 5)^2
        (auxiliary["u[1]"], 4.0),
    ):
        assert abs(got.mean() - rate) < 4.5 * np.sqrt(rate / NUMBER)
        assert abs(got.var() / rate - 1) < 4.5 * np.sqrt((2 + 1 / rate) / NUMBER)
    for name, value in (("a", 0.5), ("b", -0.3), ("c", 0.0)):
        assert stats.kstest(auxiliary[name] - value, "norm").pvalue > 1e-3
    assert stats.kstest(np.log(auxiliary["k"] / 1.2) / 0.3, "norm").pvalue > 1e-3
    correlation = np.corrcoef(np.array([*draws[:, :2].T, *auxiliary.values()]))
    exact = np.eye(8)
    exact[2, 4] = exact[4, 2] = 0.7
    assert np.abs(correlation - exact).max() < 0.04


def test_number_is_checked(every_constraint):
    model, params, _ = every_constraint
    with pytest.raises(ConfigError, match="number = 0"):
        sample_data(model, params, key=jax.random.key(5), number=0)
