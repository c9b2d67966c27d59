"""Monotone rational-quadratic splines of many columns at once."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_LEAST = 1e-3  # smallest bin (as a share of the range) and smallest slope at a knot
_ONE = math.log(math.expm1(1.0 - _LEAST))  # raw slope of a slope of one


Ends = Literal["one", "circular", "free"]
"""Slopes at the ends of the range: one, the same at both (a circle), or anything (a cube)."""


class _Bin(NamedTuple):
    """The bin in which a value lies: its lower corner, its sizes and the slopes at its ends."""

    x: Array
    y: Array
    width: Array
    height: Array
    left: Array
    right: Array


def spline_size(bins: int, ends: Ends) -> int:
    """Return the number of parameters a column: widths, heights, slopes and, on a circle, a shift.

    Example:
        >>> spline_size(8, "one"), spline_size(8, "circular"), spline_size(8, "free")
        (23, 25, 25)
    """
    return 3 * bins - 1 if ends == "one" else 3 * bins + 1


def spline_forward(
    params: Float[Array, "*rows size"],
    x: Float[Array, "*rows"],
    *,
    bins: int,
    bound: float,
    periodic: Bool[Array, " columns"] | None = None,
    free: bool = False,
) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
    r"""Return the splines of values and the logarithms of their slopes.

    With :math:`\xi = (x - x_k) / w_k` and :math:`s_k = h_k / w_k` in bin :math:`k`

    .. math::
        y = y_k + \frac{h_k (s_k \xi^2 + d_k \xi (1 - \xi))}
                       {s_k + (d_{k+1} + d_k - 2 s_k)\, \xi (1 - \xi)}

    and the identity outside of ``[-bound, bound]``. Zero parameters are the identity. Sums over the
    bins select the one of a value: no gather, one logarithm a value; this is two to three times
    faster on a CPU than the spline of distrax, which the tests compare it with.

    Args:
        params: Raw parameters, see ``spline_size``.
        x: Values.
        bins: Number of bins.
        bound: Half the range.
        periodic: Columns on a circle of circumference ``2 bound``: equal slopes at both ends and a
            shift; None where none is.
        free: Whether the slopes at the ends are free: the values fill the range and nothing else.

    References:
        C. Durkan et al., arXiv:1906.04032; on a circle: D. Rezende et al., arXiv:2002.02428.
    """
    inside = _inside(x, bound, periodic)
    at = jnp.clip(x, -bound, bound) if periodic is None else _shifted(params, x, bound, periodic, 1)
    one = _bin(params, at, bins, bound, periodic, by_y=False, free=free)
    xi = (at - one.x) / one.width
    slope = one.height / one.width
    mixed = xi * (1 - xi)
    below = slope + (one.left + one.right - 2 * slope) * mixed
    y = one.y + one.height * (slope * xi * xi + one.left * mixed) / below
    log_slope = _log_slope(one, xi)
    return jnp.where(inside, y, x), jnp.where(inside, log_slope, jnp.zeros_like(x))


def spline_inverse(
    params: Float[Array, "*rows size"],
    y: Float[Array, "*rows"],
    *,
    bins: int,
    bound: float,
    periodic: Bool[Array, " columns"] | None = None,
    free: bool = False,
) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
    """Return what ``spline_forward`` maps to ``y``, and the logarithm of the slope there."""
    inside = _inside(y, bound, periodic)
    at = jnp.clip(y, -bound, bound)
    one = _bin(params, at, bins, bound, periodic, by_y=True, free=free)
    slope = one.height / one.width
    rest = at - one.y
    bend = one.left + one.right - 2 * slope
    a = rest * bend + one.height * (slope - one.left)
    b = one.height * one.left - rest * bend
    c = -slope * rest
    root = jnp.sqrt(jnp.maximum(b * b - 4 * a * c, jnp.finfo(y.dtype).tiny))
    xi = jnp.clip(2 * c / (-b - root), 0, 1)
    x = one.x + xi * one.width
    if periodic is not None:
        x = _shifted(params, x, bound, periodic, -1)
    return jnp.where(inside, x, y), jnp.where(inside, _log_slope(one, xi), jnp.zeros_like(y))


def _log_slope(one: _Bin, xi: Array) -> Array:
    slope = one.height / one.width
    mixed = xi * (1 - xi)
    below = slope + (one.left + one.right - 2 * slope) * mixed
    above = one.right * xi * xi + 2 * slope * mixed + one.left * (1 - xi) * (1 - xi)
    ratio = slope / below
    return jnp.log(ratio * ratio * above)


def _inside(x: Array, bound: float, periodic: Array | None) -> Array:
    inside = jnp.abs(x) <= bound
    return inside if periodic is None else inside | jnp.broadcast_to(periodic, x.shape)


def _shifted(params: Array, x: Array, bound: float, periodic: Array, sign: int) -> Array:
    """Return values turned on their circle by the last parameter; others cut at the bounds."""
    turned = jnp.mod(x + sign * params[..., -1] + bound, 2 * bound) - bound
    return jnp.where(jnp.broadcast_to(periodic, x.shape), turned, jnp.clip(x, -bound, bound))


def _bin(
    params: Array, at: Array, bins: int, bound: float, periodic: Array | None, *, by_y: bool,
    free: bool,
) -> _Bin:  # fmt: skip
    widths, heights = (
        _sizes(params[..., part * bins : (part + 1) * bins], bins, bound) for part in (0, 1)
    )
    edges = jnp.cumsum(heights if by_y else widths, axis=-1)[..., :-1] - bound
    number = jnp.sum(at[..., None] >= edges, axis=-1, keepdims=True, dtype=jnp.int32)
    index = jnp.arange(bins, dtype=jnp.int32).reshape((1,) * at.ndim + (bins,))
    here, below = index == number, index < number
    k = number[..., 0]
    if free:
        left = _softplus(_picked(here, params[..., 2 * bins : 3 * bins]))
        right = _softplus(_picked(here, params[..., 2 * bins + 1 : 3 * bins + 1]))
    else:
        raw = params[..., 2 * bins : 3 * bins - 1]
        left = _softplus(_picked(here[..., 1:], raw))
        right = _softplus(_picked(here[..., :-1], raw))
        one = jnp.ones_like(left)
        left, right = jnp.where(k == 0, one, left), jnp.where(k == bins - 1, one, right)
    if periodic is not None:
        ring = params[..., 2 * bins : 3 * bins]
        round_ = jnp.broadcast_to(periodic, k.shape)
        left = jnp.where(round_, _softplus(_picked(here, ring)), left)
        right = jnp.where(round_, _softplus(_picked(here, jnp.roll(ring, -1, -1))), right)
    return _Bin(
        x=_picked(below, widths) - bound,
        y=_picked(below, heights) - bound,
        width=_picked(here, widths),
        height=_picked(here, heights),
        left=left,
        right=right,
    )


def _sizes(raw: Array, bins: int, bound: float) -> Array:
    """Return sizes of bins that fill the range, none below the least."""
    share = jnp.exp(raw - jax.lax.stop_gradient(jnp.max(raw, axis=-1, keepdims=True)))
    total = jnp.sum(share, axis=-1, keepdims=True)
    return 2 * bound * (share * ((1 - bins * _LEAST) / total) + _LEAST)


def _picked(mask: Array, values: Array) -> Array:
    return jnp.sum(jnp.where(mask, values, jnp.zeros_like(values)), axis=-1)


def _softplus(raw: Array) -> Array:
    return jax.nn.softplus(raw + jnp.asarray(_ONE, raw.dtype)) + _LEAST
