"""Schedules: end points, shape, and tracing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana import train
from difana._errors import ConfigError

PROGRESS = jnp.linspace(0.0, 1.0, 11)


@pytest.mark.parametrize("make", [train.linear, train.geometric, train.cosine])
def test_end_points_monotone_and_traceable(make):
    schedule = make(0.3, 0.05)
    values = jax.jit(jax.vmap(schedule))(PROGRESS)
    np.testing.assert_allclose(values, [schedule(p) for p in PROGRESS], rtol=1e-14)
    np.testing.assert_allclose(values[jnp.array([0, -1])], [0.3, 0.05], rtol=1e-14)
    assert np.all(np.diff(values) < 0)


def test_closed_forms():
    np.testing.assert_allclose(train.geometric(8.0, 2.0)(0.5), 4.0)
    np.testing.assert_allclose(train.geometric(-8.0, -2.0)(0.5), -4.0)
    np.testing.assert_allclose(train.cosine(1.0, 0.0)(1 / 3), 0.75)
    np.testing.assert_allclose(jax.grad(train.cosine(1.0, 0.0))(0.0), 0.0, atol=1e-15)
    assert train.constant(0.2)(0.9) == 0.2


def test_window_holds_its_ends():
    schedule = train.window(train.geometric(1.0, 0.01), begin=0.2, end=0.6)
    np.testing.assert_allclose(
        [schedule(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)], [1, 1, 0.1, 0.01, 0.01], rtol=1e-12
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: train.geometric(0.1, 0.0),
        lambda: train.geometric(-1.0, 1.0),
        lambda: train.window(train.constant(1.0), begin=0.5, end=0.5),
        lambda: train.window(train.constant(1.0), end=1.5),
    ],
)
def test_impossible_schedules_are_refused(make):
    with pytest.raises(ConfigError):
        make()
