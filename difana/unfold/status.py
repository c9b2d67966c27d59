"""What an unfolded result says about itself: bit flags that travel through jit."""

from __future__ import annotations

import enum

import jax
import numpy as np
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


_SENTENCES = {
    UnfoldStatus.NOT_FINITE: "a value was not finite: the run stopped and kept its last good state",
    UnfoldStatus.SATURATED: "more than one in a thousand events reached the cap of the weights",
    UnfoldStatus.FEW_REPLICAS: "fewer replicas than bins: the covariance has no inverse",
    UnfoldStatus.NEGATIVE: "a bin of the unfolded histogram is negative",
    UnfoldStatus.NO_COVARIANCE: "no replicas and no variations: the covariance is zero",
    UnfoldStatus.EMPTY_TRUTH: "a truth bin is never reconstructed: the data say nothing about it",
    UnfoldStatus.NOT_FITTED: "the fit cannot be trusted: see the status of its result",
    UnfoldStatus.AT_BOUND: "a truth yield lies at its bound: its uncertainty is not known",
}


def describe(status: Int[Array, "..."] | int) -> str:
    """Return a status in words.

    Args:
        status: Bits of one or several results.

    Example:
        >>> describe(0)
        'ok'
        >>> describe(int(UnfoldStatus.NEGATIVE))
        'a bin of the unfolded histogram is negative'
    """
    bits = UnfoldStatus(int(np.bitwise_or.reduce(np.ravel(jax.device_get(status)))))
    return "; ".join(text for flag, text in _SENTENCES.items() if flag & bits) or "ok"
