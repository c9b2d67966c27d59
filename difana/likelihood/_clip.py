r"""Yields of samples that stay above zero where their variations would make them negative.

A sharp corner would have no derivative, and fits like to end in it. Here the yield bends: with the
largest template :math:`t` of a bin, :math:`\delta = 10^{-4} t` and the floor
:math:`f = \min(10^{-5}, \delta/10)`, the yield :math:`x` stays above :math:`f + \delta`, becomes
:math:`f` below :math:`f - \delta` and :math:`f + (x - f + \delta)^2 / 4\delta` between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._numerics import safe_divide

if TYPE_CHECKING:
    from difana.likelihood.model import Model

_FLOOR = 1e-5  # events in a bin, the usual choice of combine
_BEND = 1e-4


class Clipped(NamedTuple):
    """Clipped yields of all rows, and their derivatives by what they were."""

    value: Float[Array, " rows"]
    slope: Float[Array, " rows"]
    bend: Float[Array, " rows"]


def clipped(model: Model, rows: Float[Array, " rows"]) -> Clipped:
    """Return yields that are not negative; rows without any yield stay zero."""
    s = model.structure
    largest = jnp.abs(model.nominal)
    for side in (model.histosys_hi, model.histosys_lo):
        largest = largest.at[s.histosys_row].max(jnp.abs(side))
    width = _BEND * largest
    floor = jnp.minimum(_FLOOR, 0.1 * width)
    above = rows - floor
    middle = jnp.abs(above) < width
    part = jnp.where(middle, above + width, 0.0)
    bent = safe_divide(part**2, 4 * width)
    high = above >= width
    return Clipped(
        jnp.where(largest > 0, floor + jnp.where(high, above, bent), 0.0),
        jnp.where(high, 1.0, safe_divide(part, 2 * width)),
        jnp.where(middle, safe_divide(jnp.ones_like(width), 2 * width), 0.0),
    )
