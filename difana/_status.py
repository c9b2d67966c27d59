"""What a result says about itself: bit flags that travel through jit, and their words."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


class StatusBits(enum.IntFlag):
    """Base of the lists of reasons to look twice at a number."""

    @classmethod
    def sentences(cls) -> Mapping[int, str]:
        """Return what each bit means."""
        raise NotImplementedError

    @classmethod
    def harmless(cls) -> int:
        """Return the bits that are worth a word and leave the number as it is."""
        return 0


class Status(StatusBits):
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

    @classmethod
    def sentences(cls) -> Mapping[int, str]:
        """Return what each bit means."""
        return {
            cls.NOT_CONVERGED: "the fit stopped before it converged",
            cls.NOT_FINITE: "a likelihood value, gradient or parameter is not finite",
            cls.INDEFINITE: "the Hessian is not positive definite: uncertainties are not defined",
            cls.AT_BOUND: "a parameter lies at its bound",
            cls.NOT_BRACKETED: "no limit was found within the range and the steps of the search",
            cls.NEGATIVE_YIELD: (
                "a bin expects a negative yield, where the likelihood has no meaning"
            ),
            cls.NO_INFLUENCE: "a parameter has no influence: its value is arbitrary",
            cls.UNBOUNDED: "no limit was found: the signal has too little influence",
            cls.IMPOSSIBLE: (
                "a bin expects nothing where events were seen: the likelihood is zero"
            ),
        }

    @classmethod
    def harmless(cls) -> int:
        """Return the bits that are worth a word and leave the number as it is."""
        return int(cls.AT_BOUND)


def trustworthy(
    status: Int[Array, "..."] | int, bits: type[StatusBits] = Status
) -> Bool[Array, "..."]:
    """Return True where the number can be trusted (a parameter at a bound does no harm).

    Example:
        >>> import jax.numpy as jnp
        >>> trustworthy(jnp.array([0, 1, 8])).tolist()
        [True, False, True]
    """
    return (jnp.asarray(status) & ~bits.harmless()) == 0


def joined(status: Int[Array, "..."] | Sequence[int] | int) -> int:
    """Return the bits of all numbers as one, on the host, wherever they lie."""
    return int(np.bitwise_or.reduce(np.ravel(jax.device_get(status)), initial=0))


def describe(status: Int[Array, "..."] | int, bits: type[StatusBits] = Status) -> str:
    """Return a status in words, one sentence a reason, or "ok".

    Example:
        >>> describe(0), describe(9)
        ('ok', 'the fit stopped before it converged; a parameter lies at its bound')
    """
    found = joined(status)
    if bits is Status and found & Status.UNBOUNDED:  # which says why the search ended
        found &= ~Status.NOT_BRACKETED
    return "; ".join(text for flag, text in bits.sentences().items() if flag & found) or "ok"


def flag(condition: Bool[Array, "..."], status: StatusBits) -> Int[Array, "..."]:
    """Return the flag where the condition holds, 0 elsewhere."""
    return jnp.where(condition, int(status), 0).astype(jnp.int32)
