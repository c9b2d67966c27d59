"""Interpolation between templates at -1, 0 and +1 standard deviation (HistFactory codes)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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
    log_hi, log_lo = jnp.log(hi), jnp.log(lo)
    conditions = jnp.stack(
        [hi - 1.0, lo - 1.0, hi * log_hi, -lo * log_lo, hi * log_hi**2, lo * log_lo**2]
    )
    a1, a2, a3, a4, a5, a6 = jnp.asarray(_INVERSE, hi.dtype) @ conditions
    inside = jnp.abs(alpha) < 1.0
    x = jnp.where(inside, alpha, 0.0)
    polynomial = 1.0 + x * (a1 + x * (a2 + x * (a3 + x * (a4 + x * (a5 + x * a6)))))
    outer = jnp.where(inside, 1.0, alpha)
    exponential = jnp.exp(jnp.abs(outer) * jnp.where(outer >= 0, log_hi, log_lo))
    return jnp.where(inside, polynomial, exponential)


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
    half_sum = 0.5 * (up + down)
    sixteenth = 0.0625 * (up - down)
    inside = jnp.abs(alpha) <= 1.0
    x = jnp.where(inside, alpha, 0.0)
    square = x * x
    polynomial = x * (half_sum + x * sixteenth * (15.0 + square * (3.0 * square - 10.0)))
    linear = alpha * jnp.where(alpha > 0, up, down)
    return jnp.where(inside, polynomial, linear)
