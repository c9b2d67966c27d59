"""What a result says about itself: bit flags that travel through jit."""

from __future__ import annotations

import enum

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


class Status(enum.IntFlag):
    """Reasons to look twice at a number; several may be set at once."""

    OK = 0
    NOT_CONVERGED = 1
    NOT_FINITE = 2
    INDEFINITE = 4
    AT_BOUND = 8
    NOT_BRACKETED = 16
    NEGATIVE_YIELD = 32
    NO_INFLUENCE = 64
    UNBOUNDED = 128
    IMPOSSIBLE = 256


_SENTENCES = {
    Status.NOT_CONVERGED: "the fit stopped before it converged",
    Status.NOT_FINITE: "a likelihood value, gradient or parameter is not finite",
    Status.INDEFINITE: "the Hessian is not positive definite: uncertainties are not defined",
    Status.AT_BOUND: "a parameter lies at its bound",
    Status.NOT_BRACKETED: "no limit was found within the range and the steps of the search",
    Status.NEGATIVE_YIELD: "a bin expects a negative yield, where the likelihood has no meaning",
    Status.NO_INFLUENCE: "a parameter has no influence: its value is arbitrary",
    Status.UNBOUNDED: "no limit was found: the signal has too little influence",
    Status.IMPOSSIBLE: "a bin expects nothing where events were seen: the likelihood is zero",
}
_HARMLESS = Status.AT_BOUND


def trustworthy(status: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Return True where the number can be trusted (a parameter at a bound does no harm).

    Example:
        >>> import jax.numpy as jnp
        >>> trustworthy(jnp.array([0, 1, 8])).tolist()
        [True, False, True]
    """
    return (jnp.asarray(status) & ~int(_HARMLESS)) == 0


def describe(status: Int[Array, "..."] | int) -> str:
    """Return a status in words.

    Example:
        >>> describe(0), describe(9)
        ('ok', 'the fit stopped before it converged; a parameter lies at its bound')
    """
    bits = Status(int(np.bitwise_or.reduce(np.ravel(jax.device_get(status)))))
    if bits & Status.UNBOUNDED:  # which says why the search ended
        bits &= ~Status.NOT_BRACKETED
    return "; ".join(text for flag, text in _SENTENCES.items() if flag & bits) or "ok"


def flag(condition: Bool[Array, "..."], status: Status) -> Int[Array, "..."]:
    """Return the flag where the condition holds, 0 elsewhere."""
    return jnp.where(condition, int(status), 0).astype(jnp.int32)
