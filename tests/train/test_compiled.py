"""Many trainings in one program against the exact maximum likelihood and against each other."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana._errors import ConfigError, InputError
from difana.nn import MLP
from difana.ratio import stacked_nets
from difana.ratio.classify import Classes, classify
from difana.train import ReplicaRows, Training, TrainStatus, compiled
from difana.train._many import mix
from difana.train.compiled import side_by_side

KEY = jax.random.key(0)


class Quadratic(eqx.Module):
    """A logit of second order, exact for Gaussian densities."""

    coefficients: jax.Array

    def __call__(self, x):
        return self.coefficients @ jnp.stack([jnp.ones(len(x)), x[:, 0], x[:, 0] ** 2])


def maximum_likelihood(x, above, below):
    """Coefficients of the quadratic logit by Newton."""
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    found = np.zeros(3)
    for _ in range(20):
        p = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (below * p - above * (1 - p))
        found -= np.linalg.solve(design.T * ((above + below) * p * (1 - p)) @ design, gradient)
    return found


def test_held_out_rows_do_not_choose_the_noise_they_like():
    rng = np.random.default_rng(3)
    replicas, sizes = 6, (8000, 2000)
    # the held-out rows happen to lie 2.5 of their standard errors further apart
    x = [np.concatenate([rng.normal(0.1 + shift, 1, n // 2), rng.normal(0, 1, n // 2)])
         for n, shift in zip(sizes, (0.0, 0.11), strict=True)]  # fmt: skip
    label = [np.arange(n) < n // 2 for n in sizes]
    factors = [rng.poisson(1.0, (replicas, n)) for n in sizes]
    train, held = (
        Classes(jnp.asarray(a, jnp.float32)[:, None], jnp.asarray(f * b), jnp.asarray(f * ~b))
        for a, b, f in zip(x, label, factors, strict=True)
    )
    nets = Quadratic(0.01 * jax.random.normal(KEY, (replicas, 3), jnp.float32))
    fit = eqx.filter_jit(classify)

    def run(patience):
        training = Training(epochs=40, batch_size=200, learning_rate=1e-2, patience=patience)
        return fit(nets, train, held, training=training, key=jax.random.key(1))

    found, report = run(40)
    kept = np.asarray(found.coefficients, float)
    one, two = (
        np.array([maximum_likelihood(a, f * b, f * ~b) for f in part])
        for a, b, part in zip(x, label, factors, strict=True)
    )
    apart = np.linalg.norm((two - one)[:, 1])
    # of the epochs, each near the maximum likelihood, the best held-out one is 0.17 away
    assert np.linalg.norm((kept - one)[:, 1]) < 0.02 * apart
    assert report.epochs.tolist() == [40] * replicas
    # each replica stops for itself
    assert len(set(run(2)[1].epochs.tolist())) > 1


def squares(centre, batch, step):
    x, w = batch
    return jnp.mean(w * (x - centre) ** 2), {}


def rows(replicas=3, number=400):
    w = jax.random.uniform(KEY, (replicas, number), minval=0.5, maxval=1.5)
    return ReplicaRows(jnp.linspace(-1.0, 1.0, number), w)


def centres(found, **more):
    training = Training(epochs=12, batch_size=50, learning_rate=0.05)
    return compiled(squares, found, rows(len(found)), key=KEY, training=training, **more)


def test_each_training_finds_the_minimum_of_its_own_rows():
    data = rows()
    expected = (data.own @ data.shared) / data.own.sum(axis=1)
    found = centres(jnp.ones(3), held=data)
    np.testing.assert_allclose(found.trainable, expected, atol=0.02)
    losses = [squares(c, (data.shared, w), None)[0]
              for c, w in zip(found.trainable, data.own, strict=True)]  # fmt: skip
    np.testing.assert_allclose(found.loss, losses, rtol=1e-3)
    assert found.ok


def test_chunks_and_devices_change_nothing():
    whole = centres(jnp.ones(4))
    for more in ({"chunk": 2}, {"devices": jax.devices()[:2]}):
        np.testing.assert_allclose(centres(jnp.ones(4), **more).trainable, whole.trainable,
                                   rtol=1e-12)  # fmt: skip
    with pytest.raises(InputError, match="cannot be spread evenly over 3 devices"):
        centres(jnp.ones(4), devices=jax.devices()[:3])


def test_a_training_that_is_not_active_or_not_finite_leaves_the_others_alone():
    alone = centres(jnp.ones(3))
    found = centres(jnp.ones(3), active=jnp.array([True, False, True]))
    np.testing.assert_allclose(found.trainable[::2], alone.trainable[::2], rtol=1e-12)
    assert float(found.trainable[1]) == 1.0
    assert found.epochs.tolist() == [int(alone.epochs[0]), 0, int(alone.epochs[2])]
    broken = centres(jnp.array([1.0, jnp.inf, 1.0]))
    early = TrainStatus.STOPPED_EARLY
    assert found.status.tolist() == [early, 0, early]
    assert broken.status.tolist() == [early, TrainStatus.DIVERGED, early]
    assert not broken.ok
    np.testing.assert_allclose(broken.trainable[::2], alone.trainable[::2], rtol=1e-12)


def test_members_share_the_rows_of_their_replica():
    found = centres(jnp.ones(3))
    training = Training(epochs=12, batch_size=50, learning_rate=0.05)
    twice = compiled(squares, jnp.ones(6), rows(), key=KEY, training=training, members=2)
    np.testing.assert_allclose(twice.trainable, np.repeat(found.trainable, 2), rtol=1e-12)


def test_a_loss_is_told_the_step():
    def keyed(centre, batch, step):
        noise = jax.random.normal(step.key)
        return centre * (noise + 10 * step.progress + step.index), {}

    sizes = {"batch_size": 100, "learning_rate": 1.0, "held_out": 0.5, "patience": None}

    def run(epochs):
        one = ReplicaRows(jnp.zeros(400), jnp.ones((1, 400)))
        return compiled(
            keyed, jnp.zeros(1), one, key=KEY, held=one, optimizer=lambda _: optax.sgd(1.0),
            training=Training(epochs=epochs, average=1e-9, **sizes), validate=lambda c, _: c,
        ).trainable[0]  # fmt: skip

    # progress reaches 1 at the last of all steps, the index counts over the epochs
    noise = [jax.random.normal(jax.random.fold_in(KEY, i)) for i in range(8)]
    expected = -sum(float(n) + 10 * i / 7 + i for i, n in enumerate(noise))
    assert float(run(2)) == pytest.approx(expected, rel=1e-6)


def test_an_exponential_average_and_steps_are_those_of_the_options():
    smooth = Training(steps=30, batch_size=50, learning_rate=0.05, average=0.99, patience=None)
    found = compiled(squares, jnp.ones(3), rows(), key=KEY, training=smooth)
    assert found.epochs.tolist() == [5, 5, 5]  # 30 steps of 6 an epoch (320 training rows)
    plain = compiled(
        squares,
        jnp.ones(3),
        rows(),
        key=KEY,
        training=Training(epochs=5, batch_size=50, learning_rate=0.05, patience=None),
    )
    # the average of all weights lags behind
    assert (np.abs(found.trainable) > np.abs(plain.trainable)).all()


def test_wrong_use_is_refused():
    with pytest.raises(ConfigError, match="nothing to train"):
        compiled(squares, jnp.ones(3, int), rows(), key=KEY)
    with pytest.raises(InputError, match="give networks for each replica"):
        compiled(squares, jnp.ones(4), rows(), key=KEY)
    with pytest.raises(ConfigError, match="members = 0"):
        compiled(squares, jnp.ones(3), rows(), key=KEY, members=0)


def test_those_side_by_side_divide_the_replicas_and_fit_the_cache():
    assert side_by_side(8, 10, chunk=3) == 2
    if jax.default_backend() == "cpu":
        assert side_by_side(20, 66_000) == 5  # the weights of 64-128-64
        assert side_by_side(20, 10**6) == 1
        assert side_by_side(20, 1_300) == 20


def test_a_net_that_looks_at_its_key_is_made_one_by_one():
    def make(key):
        return MLP(1, [], key=jax.random.key(int(jax.random.randint(key, (), 0, 1000))))

    one, two = (
        stacked_nets(f, jax.random.key(3), 2)
        for f in (make, lambda key: MLP(1, [], key=key))
    )  # fmt: skip
    assert one.layers[0].kernel.shape == two.layers[0].kernel.shape == (2, 1, 1)
    assert float(one.layers[0].kernel[0, 0, 0]) != float(one.layers[0].kernel[1, 0, 0])
    alone = MLP(1, [], key=jax.random.fold_in(jax.random.key(3), 1))
    np.testing.assert_array_equal(two.layers[0].kernel[1], alone.layers[0].kernel)


def test_later_epochs_count_more_in_the_mean_of_equal_ones():
    mean = jnp.asarray(0.0)
    for number in (1, 2, 3):
        mean = mix(mean, jnp.asarray(float(number)), jnp.asarray(number))
    np.testing.assert_allclose(mean, (1 * 1 + 2 * 2 + 3 * 3) / (1 + 2 + 3), rtol=1e-6)
