r"""Interpolation between templates at -1, 0 and +1 standard deviation (HistFactory codes).

All shift codes separate into two functions of the parameter: with the half sum
:math:`S=(u+d)/2` and half difference :math:`A=(u-d)/2` of the shifts up and down, the shift is
:math:`\alpha S + b(\alpha) A`. Only :math:`b` depends on the code, so that it is evaluated once a
parameter, not once an entry.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._numerics import one_program

SHIFT_CODES = ("code0", "code2", "code4p")
FACTOR_CODES = ("code1", "code4")
_TINY = 1e-10  # factors below it count as this: their logarithm must exist

# Solves for a_1..a_6 of 1 + sum a_i alpha^i: value, first and second derivative at alpha = +-1.
_POWERS = np.arange(1, 7)
_SYSTEM = np.stack(
    [
        np.ones(6),
        (-1.0) ** _POWERS,
        _POWERS * 1.0,
        _POWERS * (-1.0) ** (_POWERS - 1),
        _POWERS * (_POWERS - 1.0),
        _POWERS * (_POWERS - 1.0) * (-1.0) ** _POWERS,
    ]
)
_INVERSE = np.linalg.inv(_SYSTEM)


@partial(one_program, static_argnames="code")
def shift_basis(
    code: str, alpha: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    r"""Return :math:`b(\alpha)`, what multiplies the half difference, and two derivatives.

    Beyond +-1 (everywhere for code 0) the shift is linear. Between, with :math:`x=\alpha^2`:
    code 2: :math:`x`; code 4p: :math:`x(15 + x(3x - 10))/8`.

    Example:
        >>> import jax.numpy as jnp
        >>> shift_basis("code2", jnp.array([0.5, 2.0]))[0].tolist()
        [0.25, 3.0]
    """
    size, sign = jnp.abs(alpha), jnp.where(alpha < 0, -1.0, 1.0).astype(alpha.dtype)
    if code == "code0":
        return size, sign, jnp.zeros_like(size)
    inside = size <= 1.0
    x = jnp.where(inside, alpha, 0.0)
    square = x * x
    if code == "code2":
        return (
            jnp.where(inside, square, 2.0 * size - 1.0),
            jnp.where(inside, 2.0 * x, 2.0 * sign),
            jnp.where(inside, 2.0, 0.0).astype(alpha.dtype),
        )
    return (
        jnp.where(inside, 0.125 * square * (15.0 + square * (3.0 * square - 10.0)), size),
        jnp.where(inside, 0.125 * x * (30.0 + square * (18.0 * square - 40.0)), sign),
        jnp.where(inside, 0.125 * (30.0 + square * (90.0 * square - 120.0)), 0.0),
    )


class FactorCoefficients(NamedTuple):
    """What a factor needs besides its parameter: computed once before a loop."""

    log_hi: Float[Array, " entries"]
    log_lo: Float[Array, " entries"]
    polynomial: Float[Array, "6 entries"]


@one_program
def factor_coefficients(
    lo: Float[Array, " entries"], hi: Float[Array, " entries"]
) -> FactorCoefficients:
    """Return logarithms and, for code 4, the coefficients a_1..a_6 of every entry."""
    log_hi, log_lo = jnp.log(jnp.maximum(hi, _TINY)), jnp.log(jnp.maximum(lo, _TINY))
    conditions = jnp.stack(
        [hi - 1.0, lo - 1.0, hi * log_hi, -lo * log_lo, hi * log_hi**2, lo * log_lo**2]
    )
    return FactorCoefficients(log_hi, log_lo, jnp.asarray(_INVERSE, hi.dtype) @ conditions)


@partial(one_program, static_argnames="code")
def factor_parts(
    code: str, alpha: Float[Array, " entries"], coefficients: FactorCoefficients
) -> tuple[Float[Array, " entries"], ...]:
    """Return ``a`` and ``b`` with ``log f = log a + b``, and ``f'/f`` and ``f''/f``.

    Logarithms are what costs most: ``a`` of many entries may be multiplied first.
    Below a factor of 1e-10 (a polynomial may fall below zero) the logarithm goes on linearly.
    """
    log_hi, log_lo, polynomial = coefficients
    rising = alpha >= 0
    slope = jnp.where(rising, log_hi, -log_lo)
    if code == "code1":
        return jnp.ones_like(slope), alpha * slope, slope, slope**2
    a1, a2, a3, a4, a5, a6 = polynomial
    inside = jnp.abs(alpha) < 1.0
    x = jnp.where(inside, alpha, 0.0)
    factor = 1.0 + x * (a1 + x * (a2 + x * (a3 + x * (a4 + x * (a5 + x * a6)))))
    change = a1 + x * (2 * a2 + x * (3 * a3 + x * (4 * a4 + x * (5 * a5 + x * (6 * a6)))))
    bend = 2 * a2 + x * (6 * a3 + x * (12 * a4 + x * (20 * a5 + x * (30 * a6))))
    large = factor > _TINY
    safe = jnp.where(large, factor, _TINY)
    inverse = 1.0 / safe
    below = jnp.where(large, 0.0, (factor - _TINY) / _TINY)
    return (
        safe,  # one where x is zero
        jnp.where(inside, below, alpha * slope),
        jnp.where(inside, change * inverse, slope),
        jnp.where(inside, bend * inverse, slope**2),
    )


def log_factor(
    code: str, alpha: Float[Array, " entries"], coefficients: FactorCoefficients
) -> tuple[Float[Array, " entries"], Float[Array, " entries"], Float[Array, " entries"]]:
    """Return ``log f``, its derivative ``f'/f`` and ``f''/f``; see :func:`factor_parts`."""
    factor, rest, slope, bend = factor_parts(code, alpha, coefficients)
    return jnp.log(factor) + rest, slope, bend


def code4(
    alpha: Float[Array, " entries"], lo: Float[Array, " entries"], hi: Float[Array, " entries"]
) -> Float[Array, " entries"]:
    """Return the factor of a normsys: exponential beyond +-1, a 6th-order polynomial between.

    ``f = hi^alpha`` for ``alpha >= 1``, ``lo^-alpha`` for ``alpha <= -1`` and
    ``1 + sum_i a_i alpha^i`` between, with value, slope and curvature continuous.

    References:
        HistFactory, CERN-OPEN-2012-016, code 4; pyhf ``interpolators.code4``.

    Example:
        >>> import jax.numpy as jnp
        >>> code4(jnp.array([0.0, 1.0, -2.0]), jnp.full(3, 0.9), jnp.full(3, 1.2)).round(4).tolist()
        [1.0, 1.2, 0.81]
    """
    return jnp.exp(log_factor("code4", alpha, factor_coefficients(lo, hi))[0])


def code4p(
    alpha: Float[Array, " entries"], down: Float[Array, " entries"], up: Float[Array, " entries"]
) -> Float[Array, " entries"]:
    """Return the shift of a histosys: linear beyond +-1, a 6th-order polynomial between.

    With ``up = hi - nominal`` and ``down = nominal - lo``: ``alpha * up`` for ``alpha > 1``,
    ``alpha * down`` for ``alpha < -1``, and ``alpha (S + alpha A (15 + alpha^2 (3 alpha^2 - 10)))``
    between, ``S = (up + down)/2``, ``A = (up - down)/16``.

    References:
        pyhf ``interpolators.code4p``; RooFit ``PiecewiseInterpolation`` code 4.

    Example:
        >>> import jax.numpy as jnp
        >>> code4p(jnp.array([0.0, 1.0, -2.0]), jnp.full(3, 2.0), jnp.full(3, 3.0)).tolist()
        [0.0, 3.0, -4.0]
    """
    return 0.5 * (alpha * (up + down) + shift_basis("code4p", alpha)[0] * (up - down))
