"""A student with fast samples of a teacher with fast densities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.flows import autoregressive_flow, coupling_flow, distil
from difana.train import Training
from tests.flows.conftest import shaken, table

KEY = jax.random.key(0)


def test_the_student_maps_the_same_noise_to_the_same_events():
    x, given = table(2, 500)
    start = autoregressive_flow(x, given, key=KEY, layers=1, bins=4, hidden=(8,))
    teacher = shaken(start, 0.15)
    training = Training(epochs=25, batch_size=100, learning_rate=1e-2)
    found = distil(teacher, given, key=KEY, number=3000, hidden=(24,), training=training)
    assert found.ok
    z = jax.random.normal(KEY, (300, 2))
    ours, theirs = (flow.inverse(z, given[:300]) for flow in (found.flow, teacher))
    before = start.inverse(z, given[:300])
    distance = float(jnp.sqrt(jnp.mean((ours - theirs) ** 2)))
    assert distance < 0.3 * float(jnp.sqrt(jnp.mean((before - theirs) ** 2)))
    logs = [flow.log_prob(theirs, given[:300]) for flow in (found.flow, teacher)]
    assert abs(float(jnp.mean(logs[0] - logs[1]))) < 0.1
    assert np.isfinite(np.asarray(logs)).all()


def test_only_autoregressive_teachers_are_slow():
    x, _ = table(2, 20)
    with pytest.raises(InputError, match="no autoregressive flow"):
        distil(coupling_flow(x, key=KEY, layers=1, hidden=(4,)), key=KEY)
