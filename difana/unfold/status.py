"""What an unfolded result says about itself: bit flags that travel through jit."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int

from difana import _status


class UnfoldStatus(_status.StatusBits):
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

    @classmethod
    def sentences(cls) -> Mapping[int, str]:
        """Return what each bit means."""
        return {
            cls.NOT_FINITE: (
                "a value was not finite: the run stopped and kept its last good state"
            ),
            cls.SATURATED: "more than one in a thousand events reached the cap of the weights",
            cls.FEW_REPLICAS: "fewer replicas than bins: the covariance has no inverse",
            cls.NEGATIVE: "a bin of the unfolded histogram is negative",
            cls.NO_COVARIANCE: "no replicas and no variations: the covariance is zero",
            cls.EMPTY_TRUTH: ("a truth bin is never reconstructed: the data say nothing about it"),
            cls.NOT_FITTED: "the fit cannot be trusted: see the status of its result",
            cls.ILL_CONDITIONED: (
                "the response is close to singular: small errors of the simulation become large;"
                " merge bins or regularise"
            ),
            cls.SINGULAR: (
                "the data cannot tell all truth bins apart (the response is singular): what they"
                " leave open is that of the simulation; merge bins"
            ),
            cls.OUTLIER: "events lie more than 1000 widths from the others: repair or drop them",
            cls.OTHER_SCALE: (
                "simulation and data were of another scale: the simulation was scaled to the data"
            ),
            cls.DEPENDENT: (
                "truth-level observables are constant or follow from others: they were not learned"
            ),
            cls.AT_BOUND: "a truth yield lies at its bound: its uncertainty is not known",
        }


def joined(status: Int[Array, "..."] | int) -> Int[Array, ""]:
    """Return the bits of all results as one number; also where they lie on several devices.

    Example:
        >>> import numpy as np
        >>> int(joined(np.array([1, 4])))
        5
    """
    if isinstance(status, Tracer):
        return jax.lax.reduce_or(jnp.ravel(status), axes=(0,))
    # on the host: XLA has no reduction by "or" over devices
    return jnp.asarray(_status.joined(status))
