"""Fixtures. The settings of JAX are in the conftest.py of the repository root."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

DATA = Path(os.environ.get("DIFANA_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if jax.default_backend() != "gpu":
        skip = pytest.mark.skip(reason="needs a GPU")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def key() -> jax.Array:
    """A fixed random key."""
    return jax.random.key(20260101)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public data; the test is skipped where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"no public data in {DATA}: set DIFANA_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def finite_difference() -> Callable[..., np.ndarray]:
    """Central differences: ``finite_difference(function, x, step=1e-5) -> gradient like x``."""

    def gradient(function: Callable, x: jax.Array, *, step: float = 1e-5) -> np.ndarray:
        x = jnp.asarray(x, dtype=jnp.float64)
        flat = x.ravel()
        out = np.zeros(flat.size)
        for i in range(flat.size):
            up = function(flat.at[i].add(step).reshape(x.shape))
            down = function(flat.at[i].add(-step).reshape(x.shape))
            out[i] = (float(up) - float(down)) / (2 * step)
        return out.reshape(x.shape)

    return gradient
