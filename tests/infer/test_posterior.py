"""The posterior against closed forms of counting experiments."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from difana._errors import ConfigError, ModelError
from difana.infer import fit
from difana.infer.posterior.posterior import numpyro_model, posterior, posterior_predictive
from difana.infer.posterior.posterior_result import PosteriorResult
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    Parameter,
    ShapeSys,
    StatError,
    Template,
    build_model,
)
from difana.likelihood.modifiers import Correlation


def counting(background: float = 0.0):
    templates = [Template([10.0], (NormFactor("mu"),), name="signal")]
    if background:
        templates.append(Template([background], name="background"))
    return build_model([Channel(tuple(templates), name="SR")])


@pytest.fixture(scope="module")
def flat():
    model = counting()
    key = jax.random.key(1)
    return posterior(model, model.data([9.0]), key=key, samples=600, warmup=300, chains=2)


def test_flat_prior_gives_the_gamma_posterior(flat):
    exact = stats.gamma(10, scale=0.1)
    assert flat.ok
    assert flat.message == "ok"
    assert flat.draws.shape == (2, 600, 1)
    assert flat.names == ("mu",)
    error = exact.std() / np.sqrt(float(flat.effective[0]))
    assert abs(float(flat["mu"].mean()) - exact.mean()) < 4 * error
    # standard error of a quantile: sqrt(p (1 - p) / n) / density
    for level in (0.5, 0.95):
        quantile = exact.ppf(level)
        error = np.sqrt(level * (1 - level) / float(flat.effective[0])) / exact.pdf(quantile)
        assert abs(float(flat.credible_upper_limit(level)) - quantile) < 4 * error
    assert stats.kstest(np.ravel(flat["mu"])[::5], exact.cdf).pvalue > 1e-3


def test_diagnostics(flat):
    assert 0.99 < float(flat.r_hat[0]) < 1.05
    assert 100 < float(flat.effective[0]) < 3000
    assert int(flat.divergences) == 0


def nuisances():
    """A model with every kind of prior; no bin depends strongly on any nuisance."""
    signal = Template([10.0, 5.0], (NormFactor("mu"),), name="signal")
    shape = HistoSys([55.0, 60.0], [45.0, 60.0], "shift")
    bkg = Template(
        [50.0, 60.0], (shape, ShapeSys([5.0, 0.0], "flat"), StatError([2.0, 3.0], "stat")), name="b"
    )
    return build_model([Channel((signal, bkg), name="SR")])


def test_density_is_the_likelihood_of_the_model():
    """Prior and data together are the likelihood up to a constant, at any parameters."""
    from numpyro.infer.util import log_density

    model = nuisances()
    data = model.data([57.0, 66.0])
    data = data.at[model.bins :].multiply(1.1)  # auxiliary data off their centres
    program = numpyro_model(model, data)
    open_ = ~np.asarray(model.fixed)
    places = {
        "free": [model.index("mu")],
        "gaussian": [model.index(name) for name in ("shift", "stat[0]", "stat[1]")],
        "poisson": [model.index("flat[0]")],
    }
    assert sorted(itertools.chain(*places.values())) == list(np.flatnonzero(open_))

    @jax.jit
    def difference(params):
        values = {site: params[jnp.asarray(own)] for site, own in places.items()}
        return log_density(program, (), {}, values)[0] - model.logpdf(params, data)

    rng = np.random.default_rng(0)
    points = [model.init + 0.1 * rng.random(model.init.size) * open_ for _ in range(5)]
    assert np.ptp([float(difference(point)) for point in points]) < 1e-9


@pytest.mark.slow
def test_held_parameters_stay_and_constraints_bound():
    model = nuisances()
    result = posterior(
        model, model.data([57.0, 66.0]), key=jax.random.key(3), samples=300, warmup=200
    )
    held = model.index("flat[1]")
    assert bool(jnp.all(result["flat[1]"] == model.init[held]))
    assert np.isnan(float(result.r_hat[held]))
    assert np.isnan(float(result.effective[held]))
    assert result.ok
    # a constraint of unit width can only get narrower
    assert 0.3 < float(result["shift"].std()) < 1.1
    assert 0.03 < float(result["stat[1]"].std()) < 0.07


@pytest.mark.slow
def test_own_prior_of_the_parameter_of_interest():
    import numpyro.distributions as dist

    model = counting()
    result = posterior(
        model,
        model.data([9.0]),
        key=jax.random.key(4),
        samples=500,
        warmup=300,
        poi_prior=dist.Gamma(5.0, 10.0),
    )
    exact = stats.gamma(14, scale=1 / 20)  # conjugate: 5 + 9 counts, 10 + 10 exposure
    error = exact.std() / np.sqrt(float(result.effective[0]))
    assert abs(float(result["mu"].mean()) - exact.mean()) < 4 * error


def test_same_key_same_draws():
    model = counting(5.0)
    options = {"key": jax.random.key(5), "samples": 20, "warmup": 20}
    first, second = (posterior(model, model.data([12.0]), **options) for _ in range(2))
    assert bool(jnp.all(first.draws == second.draws))
    assert not first.ok  # twenty draws are too few, and the result says so
    assert "converged" in first.message


def test_errors(flat):
    model = counting()
    data = model.data([9.0])
    with pytest.raises(ConfigError, match="samples = 0"):
        posterior(model, data, key=jax.random.key(0), samples=0)
    with pytest.raises(ModelError, match="data have shape"):
        numpyro_model(model, jnp.ones(3))
    with pytest.raises(ConfigError, match="level"):
        flat.credible_upper_limit(1.5)
    with pytest.raises(ModelError, match="no parameter 'nu'"):
        flat["nu"]
    held = build_model([Channel((Template([10.0], name="s"),), name="SR")], poi=None)
    with pytest.raises(ModelError, match="no free parameter"):
        posterior(held, held.data([9.0]), key=jax.random.key(0))


@pytest.fixture(scope="module")
def gaussian():
    """Many events: the posterior is normal around the best fit."""
    signal = Template([150.0, 50.0], (NormFactor("mu"),), name="signal")
    bkg = Template([1e4, 1e4], (HistoSys([1.01e4, 0.995e4], [0.99e4, 1.005e4], "a"),), name="b")
    model = build_model([Channel((signal, bkg), name="SR")])
    data = model.data([10_330.0, 10_090.0])
    key = jax.random.key(8)
    return model, data, posterior(model, data, key=key, samples=700, warmup=400, chains=2)


@pytest.mark.slow
def test_gaussian_limit_is_the_profile_interval(gaussian):
    model, data, found = gaussian
    best = jax.jit(fit)(model, data)
    mu, sigma = float(best["mu"]), float(best.uncertainties[model.poi_index])
    assert found.ok
    effective = float(found.effective[model.poi_index])
    error = sigma / np.sqrt(effective)
    for kind, allowed in (("central", 6), ("hpd", 9)):  # the shortest interval scatters more
        low, high = map(float, found.credible_interval(kind=kind))
        assert abs(low - (mu - sigma)) < allowed * error
        assert abs(high - (mu + sigma)) < allowed * error
    limit = float(found.credible_upper_limit(0.95))
    assert abs(limit - (mu + stats.norm.ppf(0.95) * sigma)) < 6 * error
    a = float(found.credible_upper_limit(0.5, name="a"))
    assert abs(a - float(best["a"])) < 0.2


def test_summary(gaussian):
    model, _, found = gaussian
    summary = found.summary(level=0.9)
    assert summary.names == model.parameters
    assert summary.level == 0.9
    mu = np.ravel(found["mu"])
    i = model.poi_index
    for name, value in (
        ("mean", mu.mean()), ("std", mu.std()), ("median", np.median(mu)),
        ("low", np.quantile(mu, 0.05)), ("high", np.quantile(mu, 0.95)),
        ("r_hat", found.r_hat[i]), ("effective", found.effective[i]),
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(summary, name)[i], value, rtol=1e-9)


def test_posterior_predictive(gaussian):
    """Mean and variance: those of the data, that of the rates on top of Poisson."""
    model, _, found = gaussian
    counts = np.asarray(posterior_predictive(model, found, key=jax.random.key(2), number=4000))
    assert counts.shape == (4000, 2)
    assert np.all(counts == np.floor(counts))
    rates = np.asarray(jax.vmap(model.expected_main)(found.draws.reshape(-1, 2)))
    width = np.sqrt(rates.var(0) + rates.mean(0))
    assert np.all(np.abs(counts.mean(0) - rates.mean(0)) < 4 * width / np.sqrt(4000))
    np.testing.assert_allclose(counts.std(0), width, rtol=0.06)
    with pytest.raises(ModelError, match="other parameters"):
        posterior_predictive(counting(), found, key=jax.random.key(2))
    with pytest.raises(ConfigError, match="number = 0"):
        posterior_predictive(model, found, key=jax.random.key(2), number=0)


def test_questions_about_intervals(gaussian):
    model, data, found = gaussian
    with pytest.raises(ConfigError, match="no kind of interval 'shortest'"):
        found.credible_interval(kind="shortest")
    with pytest.raises(ConfigError, match="level"):
        found.summary(level=1.0)
    import numpyro.distributions as dist

    with pytest.raises(ModelError, match="'a' is constrained"):
        numpyro_model(model, data, priors={"a": dist.Normal(0.0, 1.0)})
    with pytest.raises(ModelError, match="no parameter 'nu'"):
        numpyro_model(model, data, priors={"nu": dist.Normal(0.0, 1.0)})


def test_density_of_further_constraints():
    """Log-normal and correlated constraints, and a prior of its own."""
    import numpyro.distributions as dist
    from numpyro.infer.util import log_density

    bkg = Template(
        [50.0], (NormSys(1.1, 0.9, "a"), NormSys(1.2, 0.8, "b"), NormFactor("k")), name="b"
    )
    signal = Template([10.0], (NormFactor("mu"),), name="signal")
    model = build_model(
        [Channel((signal, bkg), name="SR")],
        parameters=[Parameter("k", auxdata=1.0, sigma=0.3, constraint="lognormal")],
        correlations=[Correlation(("a", "b"), [[1.0, 0.6], [0.6, 1.0]])],
    )
    data = model.data([57.0])
    data = data.at[1:].add(0.2)
    own = dist.Normal(1.0, 0.5)
    program = numpyro_model(model, data, priors={"mu": own})
    s = model.structure
    joint = jnp.asarray(s.constrained[s.correlated])
    rng = np.random.default_rng(0)
    k, mu = model.index("k"), model.index("mu")

    @jax.jit
    def difference(params):
        values = {"correlated": params[joint], "lognormal": params[jnp.array([k])],
                  "mu": params[mu]}  # fmt: skip
        density = log_density(program, (), {}, values)[0] - own.log_prob(params[mu])
        return density - model.logpdf(params, data)

    points = [model.init + 0.2 * rng.random(model.init.size) for _ in range(4)]
    assert np.ptp([float(difference(point)) for point in points]) < 1e-9


def test_the_interval_of_highest_density_is_the_shortest():
    """Draws at the quantiles of an exponential, whose density falls: it begins at the lowest."""
    draws = -np.log1p(-(np.arange(2000) + 0.5) / 2000)
    draws = np.random.default_rng(0).permutation(draws).reshape(2, 1000, 1)
    known = jnp.zeros(1)
    found = PosteriorResult(
        jnp.asarray(draws), known, known, jnp.array(0), jnp.array(0), ("mu",), "mu"
    )
    low, high = map(float, found.credible_interval(0.8, kind="hpd"))
    assert low == draws.min()
    assert high == pytest.approx(-np.log(0.2), rel=3e-3)
    low, high = map(float, found.credible_interval(0.8))
    assert (low, high) == pytest.approx((-np.log(0.9), -np.log(0.1)), rel=3e-3)
