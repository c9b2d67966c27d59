"""Members trained together end where they end alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana._errors import ConfigError
from difana.data import Events, Sample
from difana.nn import MLP
from difana.train import TrainStatus, fit, fit_ensemble

OPTIONS = {"steps": 12, "batch_size": 16, "progress_bar": False}


def samples(seed, events=64):
    x = jax.random.normal(jax.random.key(seed), (events, 2))
    return (Sample(Events(x, jnp.ones(events)), name="data"),)


def loss(net, batch, step):
    events = batch[0].nominal
    residual = net(events.features)[:, 0] - events.features[:, 0] ** 2
    return jnp.sum(events.weights * residual**2) * (1 + step.progress), {}


@pytest.mark.parametrize("shared", [True, False])
def test_members_are_single_trainings(shared):
    keys = jax.random.split(jax.random.key(1), 2)
    nets = [MLP(2, (4,), activation="tanh", param_dtype=jnp.float64, key=key) for key in keys]
    data = [samples(0) if shared else samples(i) for i in range(2)]
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 12))
    found = fit_ensemble(
        loss, nets, data[0] if shared else data, optimizer=optimizer, keys=keys, **OPTIONS
    )
    assert found.message == "ok"
    assert found.skipped.tolist() == [0, 0]
    assert found.losses.shape == (12, 2)
    if shared:
        same = fit_ensemble(loss, nets, data[0], optimizer=optimizer, key=keys[1], **OPTIONS)
        np.testing.assert_allclose(same.losses[:, 1], found.losses[:, 1], rtol=1e-10)
    i = 1
    alone = fit(loss, nets[i], data[i], optimizer=optimizer, key=keys[i], select="last", **OPTIONS)
    np.testing.assert_allclose(
        found.losses[:, i], [record["loss"] for record in alone.history if "loss" in record]
    )
    pairs = zip(jax.tree.leaves(found.members[i]), jax.tree.leaves(alone.trainable), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_members_are_averaged_as_alone():
    nets = [MLP(2, (4,), param_dtype=jnp.float64, key=jax.random.key(i)) for i in range(2)]
    options = {**OPTIONS, "optimizer": optax.sgd(0.1), "average": 0.8}
    keys = jax.random.split(jax.random.key(1), 2)
    found = fit_ensemble(loss, nets, samples(0), keys=keys, **options)
    alone = fit(loss, nets[1], samples(0), key=keys[1], **options)
    pairs = zip(jax.tree.leaves(found.members[1]), jax.tree.leaves(alone.trainable), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_divergence_and_bad_options():
    def broken(w, batch, step):
        return w * jnp.where(w > 1, jnp.nan, 1.0), {}

    members = [jnp.asarray(0.5), jnp.asarray(2.0)]
    keys = jax.random.split(jax.random.key(0))
    options = {"optimizer": optax.sgd(0.1), "keys": keys, **OPTIONS, "steps": 60}
    found = fit_ensemble(broken, members, samples(0), max_nonfinite=5, **options)
    assert found.status == TrainStatus.DIVERGED
    assert found.skipped.tolist() == [0, 5]
    assert "step" in found.message
    assert np.isnan(found.losses[:, 1]).all()
    assert float(found.members[0]) == pytest.approx(0.0)
    assert float(found.members[1]) == 2.0
    with pytest.raises(ConfigError, match="give one each"):
        fit_ensemble(broken, members[:1], samples(0), **options)
    with pytest.raises(ConfigError, match="one key and samples"):
        fit_ensemble(broken, members, samples(0), key=keys[0], **options)
    with pytest.raises(ConfigError, match="differ"):
        fit_ensemble(broken, [members[0], jnp.zeros(3)], samples(0), **options)
    with pytest.raises(ConfigError, match="nothing to train"):
        fit_ensemble(broken, [1, 2], samples(0), **options)
