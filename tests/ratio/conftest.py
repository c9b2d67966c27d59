from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from difana.ratio import LogRatio


class Line(eqx.Module):
    """A classifier of one weight: its logit is ``slope * x``."""

    slope: jax.Array

    def __call__(self, x):
        return self.slope * x[:, 0]


@pytest.fixture
def line():
    """``line(slope)``: a ratio whose logarithm is a line."""
    return lambda slope, **more: LogRatio(
        Line(jnp.full((1,), slope, jnp.float32)), jnp.asarray(0.0), **more
    )
