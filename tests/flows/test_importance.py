"""Neural importance sampling and unweighting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.flows import (
    effective_gain,
    fit_integrator,
    integrator,
    largest_weight,
    unweight,
    unweighting_efficiency,
)
from difana.flows.importance_losses import LOSSES
from difana.train import Training

KEY = jax.random.key(0)
EVENTS = 40_000


def test_losses_are_those_of_madnis():
    """The numbers are those of PyPI madnis 1.0.0 for the same arrays, in float64."""
    i = np.arange(24.0)
    arrays = np.sin(i) + 0.3, 1 + 0.5 * np.cos(2 * i), 1 + 0.4 * np.sin(3 * i)
    f, q, q_sample = (jnp.asarray(array.reshape(2, 12)) for array in arrays)
    theirs = {
        "stratified_variance": 1.7179328648604741,
        "variance": 3.4361880571776817,
        "kl_divergence": 0.8416501001819707,
    }
    assert set(LOSSES) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(LOSSES[name](f, q, q_sample), value, rtol=1e-9)


def test_a_product_needs_fewer_points_after_training():
    start = integrator(lambda x: jnp.prod(2 * x, axis=1), 2, key=KEY, layers=2, bins=6, hidden=(8,))
    before = start.integrate(key=KEY, number=20_000)
    exact = np.sqrt((4 / 3) ** 2 - 1)
    assert float(before.relative_deviation) == pytest.approx(exact, rel=0.05)
    training = Training(steps=80, batch_size=256, learning_rate=2e-2)
    found = fit_integrator(start, key=KEY, training=training, replay=2)
    assert found.ok
    after = found.integrator.integrate(key=KEY, number=20_000)
    assert float(after.relative_deviation) < 0.2 * exact
    assert abs(float(after.value) - 1) < 4 * float(after.error)
    assert float(after.efficiency) > 1.5 * float(before.efficiency)


def peak(centre: float):
    """Return a channel with points around a place, and its log Jacobian."""

    def channel(u):
        low, high = jnp.arctan((0 - centre) / 0.1), jnp.arctan((1 - centre) / 0.1)
        angle = low + u * (high - low)
        x = centre + 0.1 * jnp.tan(angle)
        slope = jnp.log(0.1 * (high - low)) - 2 * jnp.log(jnp.cos(angle))
        return x, jnp.sum(slope, axis=-1)

    return channel


def two_peaks(x):
    return sum(
        sign * jnp.exp(-jnp.sum((x - at) ** 2, axis=1) / (2 * 0.08**2))
        for sign, at in ((1.0, 0.3), (-1.0, 0.7))
    )


def test_two_channels_of_opposite_sign_and_one_that_is_not_needed():
    channels = (peak(0.3), peak(0.7), peak(0.05))
    start = integrator(
        two_peaks, 2, key=KEY, channels=channels, layers=2, bins=4, hidden=(8,),
        prior=(1.0, 1.0, 1e-9),
    )  # fmt: skip
    alpha = start.channel_weights(jax.random.uniform(KEY, (7, 2), jnp.float32))
    np.testing.assert_allclose(jnp.sum(alpha, axis=1), 1, rtol=1e-5)
    training = Training(steps=60, batch_size=256, learning_rate=1e-2)
    found = fit_integrator(start, key=KEY, training=training).integrator
    whole = found.integrate(key=KEY, number=20_000)
    assert abs(float(whole.value)) < 4 * float(whole.error)
    less = found.without_small_channels(whole)
    assert less.active.tolist() == [True, True, False]
    again = less.integrate(key=jax.random.key(3), number=20_000)
    assert abs(float(again.value)) < 4 * float(again.error)
    assert float(again.shares[2]) == 0


@pytest.fixture(scope="module")
def weights():
    """Weights that grow with x, and a surrogate that is wrong by a tenth or more."""
    rng = np.random.default_rng(0)
    x = rng.random(EVENTS)
    exact = np.exp(3 * x)
    return x, exact, exact * np.exp(0.15 * rng.normal(size=EVENTS))


@pytest.mark.parametrize("excess", [0.0, 0.05])
@pytest.mark.parametrize("stages", [1, 2])
def test_what_is_kept_follows_the_weights(weights, stages, excess):
    x, exact, surrogate = weights
    found = unweight(exact, key=KEY, excess=excess, surrogate=surrogate if stages == 2 else None)
    kept = np.average(x[found.kept], weights=found.weights)
    truth = np.average(x, weights=exact)
    error = x[found.kept].std() / np.sqrt(found.kept.sum())
    assert abs(kept - truth) < 4 * error
    assert (found.weights > 1).any() == (excess > 0)


def test_a_surrogate_saves_evaluations(weights):
    _, exact, surrogate = weights
    one, two = unweight(exact, key=KEY), unweight(exact, key=KEY, surrogate=surrogate)
    assert two.evaluations < 0.4
    assert float(effective_gain(one, two, cost=1000.0)) > 1.2
    assert float(effective_gain(one, two, cost=0.1)) < 0.2  # a surrogate that costs more


def test_the_largest_weight_is_no_fluctuation():
    w = np.append(np.random.default_rng(0).random(10_000), 1e3)
    assert largest_weight(w, excess=0.0) == 1e3
    assert largest_weight(w, excess=0.2) < 1.01
    assert unweighting_efficiency(w, excess=0.2) > 50 * unweighting_efficiency(w, excess=0.0)


def test_wrong_use_is_refused():
    start = integrator(lambda x: x[:, 0] / 0.0, 1, key=KEY, layers=1, hidden=(4,))
    with pytest.raises(InputError, match="integrand is not finite"):
        start.integrate(key=KEY, number=100)
    with pytest.raises(ConfigError, match="loss = 'varianze'"):
        fit_integrator(start, key=KEY, loss="varianze")
    with pytest.raises(ConfigError, match="needs Training"):
        fit_integrator(start, key=KEY, training=Training())
    with pytest.raises(ConfigError, match="prior"):
        integrator(lambda x: x[:, 0], 1, key=KEY, prior=(1.0, 2.0))
    for bad in (np.array([1.0, np.nan]), np.zeros(2)):
        with pytest.raises(InputError, match="nothing can be unweighted"):
            largest_weight(bad)
    with pytest.raises(InputError, match="surrogate"):
        unweight(np.ones(2), key=KEY, surrogate=np.array([1.0, 0.0]))
