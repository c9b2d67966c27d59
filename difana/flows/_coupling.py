"""One coupling layer of a spline flow, made of the bijectors of distrax."""

from __future__ import annotations

import warnings
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from difana._typing import PyTree

_LEAST = 1e-3  # smallest bin (in units of the standard deviation) and slope of a spline


def distrax() -> Any:
    """Return the module: heavy, and its requirement tfp warns at import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import distrax as module
    return module


def coupling(
    net: PyTree, mask: Bool[Array, " dims"], context: Float[Array, "*batch given"], *, bound: float
) -> Any:
    r"""Return the bijector of one layer.

    Where ``mask`` is True values pass; the others go through rational-quadratic splines on
    ``[-bound, bound]`` (the identity outside) whose parameters ``net`` computes from the values
    that pass and from the context.
    """
    module = distrax()

    def parameters(kept: Array) -> Array:
        given = jnp.broadcast_to(context, (*kept.shape[:-1], context.shape[-1]))
        out = net(jnp.concatenate([kept, given.astype(kept.dtype)], axis=-1))
        return out.reshape(*kept.shape, -1)

    def spline(params: Array) -> Any:
        return module.RationalQuadraticSpline(
            params, -bound, bound, boundary_slopes="identity", min_bin_size=_LEAST,
            min_knot_slope=_LEAST,
        )  # fmt: skip

    return module.MaskedCoupling(mask, parameters, spline, event_ndims=1)
