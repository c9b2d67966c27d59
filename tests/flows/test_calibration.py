"""The energy of a shower and its uncertainty, from a flow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.flows import coupling_flow, fit_flow
from difana.train import Training


def showers(rng, events):
    """Return energies and what three layers of a sampling calorimeter saw."""
    energy = rng.uniform(10, 100, events)
    shares = rng.dirichlet([2.0, 5.0, 3.0], events)
    seen = energy[:, None] * shares * np.array([0.9, 1.0, 0.8])
    return energy[:, None], seen + np.sqrt(0.1 * seen) * rng.normal(size=seen.shape)


@pytest.mark.slow
def test_the_interval_of_each_shower_covers():
    rng = np.random.default_rng(0)
    energy, layers = showers(rng, 20_000)
    key = jax.random.key(0)
    flow = coupling_flow(energy, layers, key=key, layers=3, hidden=(32, 32))
    training = Training(epochs=25, batch_size=250, learning_rate=3e-3, average=0.99)
    found = fit_flow(flow, energy, layers, key=key, training=training)
    truth, seen = showers(rng, 5000)
    draws = found.flow.sample(jnp.asarray(seen), key=key, samples=300)[..., 0]
    low, high = np.quantile(np.asarray(draws), [0.16, 0.84], axis=1)
    inside = (low < truth[:, 0]) & (truth[:, 0] < high)
    assert inside.mean() == pytest.approx(0.68, abs=0.02)
    width = (high - low) / 2
    for part in np.array_split(np.argsort(width), 3):  # sure and unsure showers alike
        assert inside[part].mean() == pytest.approx(0.68, abs=0.04)
    assert np.quantile(width, 0.9) > 1.5 * np.quantile(width, 0.1)
