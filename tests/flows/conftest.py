"""One small flow of each kind, shaken so that it is no identity."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.flows import Column, autoregressive_flow, continuous_flow, coupling_flow

SMALL = {"layers": 2, "bins": 4, "hidden": (6,)}
KINDS = {
    "spline coupling": (coupling_flow, SMALL),
    "affine coupling, LU": (coupling_flow, SMALL | {"transformer": "affine", "mixing": "lu"}),
    "autoregressive": (autoregressive_flow, SMALL),
    "inverse autoregressive": (autoregressive_flow, SMALL | {"inverse": True}),
    "continuous": (continuous_flow, {"hidden": (6,), "steps": 10}),
    "ranges and a circle": (
        coupling_flow,
        SMALL | {"columns": {0: Column("periodic", -6.0, 6.0), 1: Column("between", -8.0, 8.0)}},
    ),
}


def shaken(flow, size: float = 0.3):
    """Return the flow with random weights, so that it is far from the identity."""
    leaves, rest = eqx.partition(flow, flow.trained())
    flat, structure = jax.tree.flatten(leaves)
    keys = jax.random.split(jax.random.key(7), len(flat))
    moved = [
        x + size * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(flat, keys, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, moved), rest)


def table(dims: int, events: int = 200):
    """Return values and contexts."""
    rng = np.random.default_rng(dims)
    return jnp.asarray(rng.normal(size=(events, dims))), jnp.asarray(rng.normal(size=(events, 1)))


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def flow(kind):
    """A flow of two columns and one condition."""
    make, options = KINDS[kind]
    return shaken(make(*table(2), key=jax.random.key(0), **options))
