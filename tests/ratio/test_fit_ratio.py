"""Learned ratios against densities whose ratio is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError, ModelError
from difana.data import Events
from difana.nn import MLP, DeepSets
from difana.ratio import RatioRows, fit_ratio, fit_ratios, two_samples
from difana.ratio.classify import Classes, _typical
from difana.train import Training

KEY = jax.random.key(0)
TRAINING = Training(epochs=15, batch_size=500, learning_rate=1e-2)


def gaussians(rng, events=20_000):
    """Two normal distributions: the log ratio is a parabola."""
    one, two = rng.normal(0.5, 0.8, events), rng.normal(0.0, 1.0, events)
    return one[:, None], two[:, None]


def exact(x):
    z = x[:, 0]
    return -((z - 0.5) ** 2) / (2 * 0.64) - np.log(0.8) + z**2 / 2


@pytest.fixture(scope="module")
def found():
    one, two = gaussians(np.random.default_rng(1))
    weights = np.full(len(one), 0.5), np.full(len(two), 2.0)
    rows = two_samples(*(Events(jnp.asarray(x), jnp.asarray(w))
                         for x, w in zip((one, two), weights, strict=True)))  # fmt: skip
    return fit_ratio(rows, key=KEY, training=TRAINING, hidden=(32,), members=3)


def test_the_ratio_of_two_gaussians_is_that_of_their_yields(found):
    at = np.linspace(-1.5, 2.0, 8)[:, None]
    expected = exact(at) + np.log(0.25)
    np.testing.assert_allclose(found.log_ratio(at), expected, atol=0.1)
    assert float(found.log_ratio.log_norm) == pytest.approx(np.log(0.25), abs=1e-6)
    # the mean of the ratios, not of their logarithms
    each = np.asarray(found.log_ratio.each(at))
    assert each.shape == (3, 8)
    assert np.ptp(each, axis=0).max() > 1e-4
    np.testing.assert_allclose(found.log_ratio(at), np.log(np.exp(each).mean(0)), atol=1e-5)
    assert int(found.held.sum()) == 8000


def test_the_weight_of_a_row_counts_as_so_many_rows():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20_000, 1))
    # a tilted half of the rows over the other half, of which some have negative weights
    tilt = 3.0 * np.exp(x[:, 0] - 0.5)
    sign = np.where(rng.uniform(size=len(x)) < 0.25, -1.0, 1.0) / 0.5
    side = np.arange(len(x)) % 2 == 0
    rows = RatioRows(jnp.asarray(x), jnp.asarray(np.where(side, tilt * sign, 0.0)),
                     jnp.asarray(np.where(side, 0.0, 1.0)))  # fmt: skip
    found = fit_ratio(rows, key=KEY, training=TRAINING, hidden=(16,))
    at = np.array([[-1.0], [0.0], [1.0]])
    np.testing.assert_allclose(found.log_ratio(at), np.log(3) + at[:, 0] - 0.5, atol=0.25)


def test_replicas_do_not_see_each_other():
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(4000, 1)))
    slopes = jnp.array([-0.5, 0.0, 0.5])[:, None]
    above = jnp.exp(slopes * x[:, 0] - slopes**2 / 2)
    many = fit_ratios(Classes(x, above, jnp.ones_like(above)), key=KEY, training=TRAINING,
                      hidden=(16,))  # fmt: skip
    at = np.array([[-1.0], [1.0]])
    expected = np.asarray(slopes) * at[:, 0] - np.asarray(slopes) ** 2 / 2
    np.testing.assert_allclose(many.log_ratios(at), expected, atol=0.1)
    for i in range(3):
        np.testing.assert_allclose(many.log_ratios.one(i)(at), many.log_ratios(at)[i], rtol=1e-5)


def test_a_cap_is_one_of_the_shape(found):
    capped = type(found.log_ratio)(
        found.log_ratio.nets, found.log_ratio.log_norm, members=3, cap=0.5
    )
    far = np.array([[-4.0], [0.5], [0.2]])
    log = np.asarray(found.log_ratio(far)) - np.log(0.25)
    assert log.min() < -0.5
    np.testing.assert_allclose(capped(far), np.clip(log, -0.5, 0.5) + np.log(0.25), atol=1e-5)


def test_particles_with_a_mask_are_rows_too():
    rng = np.random.default_rng(4)
    number = rng.integers(1, 4, 2000)
    mask = np.arange(3) < number[:, None]
    particles = np.where(mask[..., None], rng.normal(size=(2000, 3, 2)), 0.0)

    rows = RatioRows(jnp.asarray(particles), jnp.asarray(number / 2.0), jnp.ones(2000))
    found = fit_ratio(
        rows, key=KEY, training=Training(epochs=20, batch_size=100, learning_rate=1e-2),
        net=lambda key: DeepSets(2, [8], latent=8, activation="silu", key=key),
    )  # fmt: skip
    ratio = np.exp(np.asarray(found.log_ratio(particles)))
    means = [ratio[number == n].mean() for n in (1, 2, 3)]
    np.testing.assert_allclose(means, [0.5, 1.0, 1.5], atol=0.15)


def test_wrong_rows_are_refused():
    x, one = jnp.ones((4, 1)), jnp.ones(4)
    for rows, message in (
        (RatioRows(x, one, -one), "total weights of 4 and -4"),
        (RatioRows(x, one[:3], one), "4 rows, 3 and 4 weights"),
        (RatioRows(x.at[2].set(jnp.nan), one, one), "x is not finite in 1 rows, first in row 2"),
        (RatioRows(x, one.at[1].set(jnp.inf), one), "above is not finite"),
        (RatioRows(x[:1], one[:1], one[:1]), "needs at least 2"),
        (RatioRows(jnp.ones((4, 3, 2)), one, one), "give net"),
    ):
        with pytest.raises(InputError, match=message):
            fit_ratio(rows, key=KEY)
    for change, message in (({"members": 0}, "members = 0"), ({"cap": -1.0}, "cap = -1")):
        with pytest.raises(ConfigError, match=message):
            fit_ratio(RatioRows(x, one, one), key=KEY, **change)
    with pytest.raises(ModelError, match="lower learning_rate"):
        fit_ratio(
            RatioRows(jnp.arange(400.0)[:, None], jnp.ones(400), jnp.ones(400)), key=KEY,
            net=lambda key: jax.tree.map(lambda leaf: leaf * jnp.nan, MLP(1, [], key=key)),
        )  # fmt: skip
    with pytest.raises(InputError, match="give the same features"):
        two_samples(Events(x, one), Events(jnp.ones((4, 2)), one))


def test_the_weight_of_a_typical_row():
    weights = jnp.array([[1.0, 1.0, 0.0], [3.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(_typical(weights), [1.0, 5.0, 0.0])
