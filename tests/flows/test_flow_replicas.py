"""Flows of many replicas: each learns the density of the events with its own weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.flows import coupling_flow, fit_flow_replicas
from difana.train import Training

KEY = jax.random.key(0)


def test_each_replica_learns_its_own_tilt():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(3000, 1))
    x = given + rng.normal(size=(3000, 1))
    noise = (x - given)[:, 0]
    tilts = np.array([-0.5, 0.0, 0.5])
    weights = np.exp(tilts[:, None] * noise)
    flow = coupling_flow(x, given, key=KEY, layers=1, hidden=(16,))
    training = Training(epochs=20, batch_size=200, learning_rate=1e-2)
    found = fit_flow_replicas(flow, x, given, weights, key=KEY, training=training)
    at, context = np.array([[-1.0], [0.0], [1.0], [2.0]]), np.array([[0.0], [0.0], [0.5], [1.0]])
    # a tilt of a normal distribution moves its mean
    expected = -0.5 * (at - context)[:, 0] ** 2 - 0.5 * np.log(2 * np.pi)
    expected = expected + tilts[:, None] * (at - context)[:, 0] - tilts[:, None] ** 2 / 2
    log = found.each(jnp.asarray(at), jnp.asarray(context))
    np.testing.assert_allclose(log, expected, atol=0.2)
    kernels = np.asarray(found.flow.body.layers.net.layers[0].kernel[...])
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1  # from networks of their own


def test_wrong_use_is_refused():
    x = np.arange(8.0)[:, None]
    flow = coupling_flow(x, x, key=KEY, layers=1, hidden=(4,))
    with pytest.raises(InputError, match=r"give \[replicas, events\]"):
        fit_flow_replicas(flow, x, x, np.ones((2, 7)), key=KEY)
    with pytest.raises(InputError, match="no positive total"):
        fit_flow_replicas(flow, x, x, np.zeros((2, 8)), key=KEY)
