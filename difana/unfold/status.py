"""What an unfolded result says about itself: bit flags that travel through jit."""

from __future__ import annotations

import enum

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int


class UnfoldStatus(enum.IntFlag):
    """Reasons to look twice at an unfolded result; several may be set at once."""

    OK = 0
    NOT_FINITE = 1
    SATURATED = 2
    FEW_REPLICAS = 4
    NEGATIVE = 8
    NO_COVARIANCE = 16
    EMPTY_TRUTH = 32
    NOT_FITTED = 64
    AT_BOUND = 128
    ILL_CONDITIONED = 256
    SINGULAR = 512
    OUTLIER = 1024
    OTHER_SCALE = 2048
    DEPENDENT = 4096


_SENTENCES = {
    UnfoldStatus.NOT_FINITE: "a value was not finite: the run stopped and kept its last good state",
    UnfoldStatus.SATURATED: "more than one in a thousand events reached the cap of the weights",
    UnfoldStatus.FEW_REPLICAS: "fewer replicas than bins: the covariance has no inverse",
    UnfoldStatus.NEGATIVE: "a bin of the unfolded histogram is negative",
    UnfoldStatus.NO_COVARIANCE: "no replicas and no variations: the covariance is zero",
    UnfoldStatus.EMPTY_TRUTH: "a truth bin is never reconstructed: the data say nothing about it",
    UnfoldStatus.NOT_FITTED: "the fit cannot be trusted: see the status of its result",
    UnfoldStatus.ILL_CONDITIONED: (
        "the response is close to singular: small errors of the simulation become large; merge"
        " bins or regularise"
    ),
    UnfoldStatus.SINGULAR: (
        "the data cannot tell all truth bins apart (the response is singular): what they leave"
        " open is that of the simulation; merge bins"
    ),
    UnfoldStatus.OUTLIER: "events lie more than 1000 widths from the others: repair or drop them",
    UnfoldStatus.OTHER_SCALE: (
        "simulation and data were of another scale: the simulation was scaled to the data"
    ),
    UnfoldStatus.DEPENDENT: (
        "truth-level observables are constant or follow from others: they were not learned"
    ),
    UnfoldStatus.AT_BOUND: "a truth yield lies at its bound: its uncertainty is not known",
}


def describe(status: Int[Array, "..."] | int) -> str:
    """Return a status in words.

    Args:
        status: Bits of one or several results.

    Returns:
        One sentence a reason, or "ok".

    Example:
        >>> describe(0)
        'ok'
        >>> describe(int(UnfoldStatus.NEGATIVE))
        'a bin of the unfolded histogram is negative'
    """
    bits = UnfoldStatus(int(joined(status)))
    return "; ".join(text for flag, text in _SENTENCES.items() if flag & bits) or "ok"


def joined(status: Int[Array, "..."] | int) -> Int[Array, ""]:
    """Return the bits of all results as one number; also where they lie on several devices.

    Example:
        >>> int(joined(np.array([1, 4])))
        5
    """
    if isinstance(status, Tracer):
        return jax.lax.reduce_or(jnp.ravel(status), axes=(0,))
    # on the host: XLA has no reduction by "or" over devices
    return jnp.asarray(np.bitwise_or.reduce(np.ravel(jax.device_get(status))))
