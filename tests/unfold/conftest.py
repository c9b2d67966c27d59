from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest


class Quadratic(eqx.Module):
    """A logit of second order, exact for Gaussian densities."""

    coefficients: jax.Array

    def __call__(self, x):
        rows, columns = np.triu_indices(x.shape[1])
        terms = jnp.concatenate([jnp.ones_like(x[:, :1]), x, x[:, rows] * x[:, columns]], axis=1)
        return terms @ self.coefficients


def _quadratic(columns, dtype=jnp.float32):
    size = 1 + columns + columns * (columns + 1) // 2
    return lambda key: Quadratic(0.01 * jax.random.normal(key, (size,), dtype))


def _moments(problem, log_weights):
    w = np.asarray(problem.gen_weights * np.exp(log_weights) * problem.pass_gen)
    z = np.asarray(problem.gen)[:, 0]
    mean = np.average(z, weights=w)
    return mean, np.sqrt(np.average((z - mean) ** 2, weights=w))


@pytest.fixture(scope="session")
def quadratic():
    """``quadratic(columns)`` makes networks that are exact for Gaussian densities."""
    return _quadratic


@pytest.fixture(scope="session")
def moments():
    """``moments(problem, log_weights)``: mean and standard deviation of the unfolded truth."""
    return _moments
