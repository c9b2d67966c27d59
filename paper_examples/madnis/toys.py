"""Integrands of the example, for difana and for vegas: they take the array module."""

from __future__ import annotations

from typing import Any

WIDTH = 0.08
CENTRES = (0.3, 0.7)


def product(x: Any, xp: Any) -> Any:
    """Return the product of 2 x_i: its integral is 1, its relative deviation in 4-D 1.470."""
    return xp.prod(2 * x, axis=1)


def opposite(x: Any, xp: Any) -> Any:
    """Return two peaks in two dimensions, of opposite sign: their integral is 0."""
    one, two = (xp.exp(-xp.sum((x - c) ** 2, axis=1) / (2 * 0.2**2)) for c in (0.35, 0.65))
    return one - two


def diagonal(x: Any, xp: Any) -> Any:
    """Return two peaks on the diagonal of six dimensions: a grid sees 2^6 of them."""
    size = (2 * xp.pi * WIDTH**2) ** (x.shape[1] / 2)
    return sum(xp.exp(-xp.sum((x - c) ** 2, axis=1) / (2 * WIDTH**2)) for c in CENTRES) / (2 * size)
