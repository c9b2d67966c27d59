from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data.generate import resolution_levels, with_resolution
from difana.train import Training
from difana.unfold import Settings, fit_nuisance, nuisance, nuisance_weights, unfolding_problem
from difana.unfold.nuisance import NuisanceWeights, _at, _inputs


def toy(events):
    levels = resolution_levels(key=jax.random.key(1), events=events)
    nominal = unfolding_problem(**levels.inputs())

    def problem_at(theta):
        moved = with_resolution(nominal.gen, nominal.reco, theta[0])
        return eqx.tree_at(lambda p: p.reco, nominal, moved)

    return nominal, problem_at


def test_the_derivative_is_that_of_retraining(quadratic):
    _, problem_at = toy(2000)
    training = Training(epochs=4, batch_size=400, learning_rate=3e-2)
    settings = Settings(iterations=2, training=training, dtype="float64")
    nets = {"gen_net": quadratic(1, jnp.float64), "reco_net": quadratic(2, jnp.float64)}
    key, h = jax.random.key(2), 1e-4
    here = nuisance_weights(problem_at, [1.2], key=key, settings=settings, **nets)
    # one standardisation for all
    inputs, theta, _ = _inputs(problem_at, [1.2], settings, key=key, **nets)
    up, down = (_at(inputs, theta + shift, problem_at) for shift in (h, -h))
    expected = (up.log_weights - down.log_weights) / (2 * h)
    assert float(jnp.abs(expected).max()) > 0.05
    np.testing.assert_allclose(here.derivative[:, 0], expected, atol=1e-5)
    slope = (up.divergence - down.divergence) / (2 * h)
    np.testing.assert_allclose(here.gradient[0], slope, rtol=1e-4)
    # statistics of the 2000 data and of the weighted simulation add up
    weights = np.exp(np.asarray(here.log_weights))
    statistics = 1 / 2000 + np.sum(weights**2) / np.sum(weights) ** 2
    np.testing.assert_allclose(here.events, 1 / statistics, rtol=1e-6)
    with pytest.raises(InputError, match="row of finite numbers"):
        nuisance_weights(problem_at, 1.0, key=key)


def test_the_fit_is_that_of_a_parabola_and_its_constraints(quadratic, monkeypatch):
    """With a quadratic divergence the profile fit is the weighted mean of data and priors."""
    information, best = jnp.array([[2.0, 0.6], [0.6, 1.0]]), jnp.array([1.5, -0.5])

    def parabola(inputs, theta, problem_at):
        away = theta - best
        return NuisanceWeights(
            theta, jnp.zeros(3), jnp.zeros((3, 2)), 0.5 * away @ information @ away,
            information @ away, information, jnp.asarray(100.0),
        )  # fmt: skip

    monkeypatch.setattr(nuisance, "_at", parabola)
    _, problem_at = toy(100)
    priors, sigma = np.array([1.0, 0.3]), np.array([0.1, 0.05])
    weight = np.diag(1 / sigma**2)
    both = 100 * np.asarray(information) + weight
    exact = np.linalg.solve(both, 100 * np.asarray(information @ best) + weight @ priors)
    found = fit_nuisance(
        lambda theta: problem_at(theta[:1]), [0.0, 0.0], key=jax.random.key(0), prior=priors,
        sigma=sigma, gen_net=quadratic(1), reco_net=quadratic(2),
    )  # fmt: skip
    assert bool(found.converged)
    np.testing.assert_allclose(found.theta, exact, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(both), rtol=1e-6)


@pytest.mark.slow
def test_profile_fit_finds_the_resolution(quadratic, moments):
    nominal, problem_at = toy(40_000)
    training = Training(
        epochs=15, batch_size=2000, learning_rate=1e-2, final_rate=0.01, patience=15
    )
    settings = Settings(iterations=6, training=training)
    nets = {"gen_net": quadratic(1), "reco_net": quadratic(2)}
    named = {"key": jax.random.key(2), "settings": settings, **nets}
    fit = fit_nuisance(problem_at, [1.0], **named)
    error = float(fit.covariance[0, 0]) ** 0.5
    assert bool(fit.converged)
    assert error < 0.05
    assert abs(float(fit.theta[0]) - 1.5) < 2 * error
    np.testing.assert_allclose(moments(nominal, fit.weights.log_weights), (0.8, 1.0), atol=0.03)
    # shifts of a tenth: retrained weights agree with the log-linear ones
    inputs, theta, _ = _inputs(problem_at, fit.theta, settings, key=jax.random.key(2), **nets)
    here, up, down = (_at(inputs, theta + shift, problem_at) for shift in (0.0, 0.1, -0.1))
    retrained = (up.log_weights - down.log_weights) / 0.2
    off = jnp.sum(jnp.abs(here.derivative[:, 0] - retrained))
    assert float(off) < 0.25 * float(jnp.sum(jnp.abs(retrained)))
    tight = fit_nuisance(problem_at, [1.0], sigma=[1e-3], steps=3, **named)
    assert abs(float(tight.theta[0]) - 1.0) < 0.01
