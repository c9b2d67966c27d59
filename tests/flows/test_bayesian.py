"""Flows whose weights have a distribution."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.flows import coupling_flow, fit_bayesian_flow, fit_flow
from difana.train import Training

KEY = jax.random.key(0)


def fitted(events: int):
    x = np.random.default_rng(0).normal(size=(events, 1))
    start = coupling_flow(x, key=KEY, layers=1, bins=5, hidden=(6,))
    training = Training(steps=400, batch_size=100, learning_rate=1e-2, patience=None)
    start = fit_flow(start, x, key=KEY, training=training).flow
    training = Training(steps=800, batch_size=100, learning_rate=1e-2, patience=None, average=0.99)
    return fit_bayesian_flow(start, x, key=KEY, training=training, spread=0.05)


@pytest.mark.slow
def test_the_error_is_that_of_the_number_of_events():
    grid = jnp.linspace(-1.5, 1.5, 31)[:, None]
    law = np.exp(-0.5 * np.asarray(grid)[:, 0] ** 2) / np.sqrt(2 * np.pi)
    sizes, found = [], None
    for events in (250, 4000):
        found = fitted(events)
        assert found.ok
        densities = np.exp(found.flow.draws(key=KEY, number=40).each(grid))
        sizes.append(densities.std(axis=0).mean())
        pulls = (densities.mean(axis=0) - law) / densities.std(axis=0)
        assert np.sqrt(np.mean(pulls**2)) < 3
    assert sizes[0] > 1.5 * sizes[1]
    mixture = found.flow.draws(key=KEY, number=5)
    draws = mixture.sample(key=KEY, samples=2000)
    assert draws.shape == (2000, 1)
    assert float(jnp.std(draws)) == pytest.approx(1, abs=0.1)
    mean = jnp.mean(jnp.exp(mixture.each(grid)), axis=0)
    np.testing.assert_allclose(jnp.exp(mixture.log_prob(grid)), mean, rtol=1e-5)
    assert mixture.one(3).sample(key=KEY, samples=2).shape == (2, 1)


def test_the_divergence_is_that_of_normal_distributions():
    x = np.random.default_rng(0).normal(size=(50, 1))
    start = coupling_flow(x, key=KEY, layers=1, bins=5, hidden=(6,))
    training = Training(steps=1, batch_size=10)
    flow = fit_bayesian_flow(start, x, key=KEY, training=training, prior=2.0).flow
    means = jax.tree.leaves(eqx.filter(flow.mean, flow.mean.trained()))
    total = 0.0
    for m, log_s in zip(means, jax.tree.leaves(flow.log_spread), strict=True):
        m, s = np.asarray(m, np.float64), np.exp(np.asarray(log_s, np.float64))
        total += np.sum(np.log(2 / s) + (s**2 + m**2) / 8 - 0.5)
    np.testing.assert_allclose(flow.divergence(2.0), total, rtol=1e-5)


def test_negative_weights_are_refused():
    x = np.random.default_rng(0).normal(size=(50, 1))
    start = coupling_flow(x, key=KEY, layers=1, bins=5, hidden=(6,))
    with pytest.raises(InputError, match="negative weights"):
        fit_bayesian_flow(start, x, key=KEY, weights=np.where(np.arange(50) < 3, -1.0, 1.0))
