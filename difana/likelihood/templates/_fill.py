"""How events become sums: one rule for every binning, hard, soft or of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from difana._errors import InputError
from difana._numerics import weighted_sums
from difana.hist import (
    Shares,
    bin_coordinate,
    hard_histogram,
    soft_histogram,
    soft_shares,
)

Sums = Callable[[Array, Array], tuple[Array, Array]]
"""outputs, weights -> contents, squares"""


class Fill(NamedTuple):
    """Contents and squares of events, and their shares where weights vary."""

    sums: Sums
    shares: Shares


def make_fill(edges: Array | Shares, bandwidth: Array | float | None, *, relative: bool) -> Fill:
    """Return the rule of a binning."""
    if callable(edges):
        return Fill(lambda out, weights: _from_shares(edges(out), weights), edges)
    if relative and bandwidth is None:
        raise InputError("relative=True needs a bandwidth, in units of the bin widths")

    def prepared(outputs: Array) -> tuple[Array, Array]:
        x = outputs[:, 0]
        if not relative:
            return x, edges
        return bin_coordinate(x, edges), jnp.arange(len(edges), dtype=x.dtype)

    def sums(outputs: Array, weights: Array) -> tuple[Array, Array]:
        x, own = prepared(outputs)
        if bandwidth is None:
            found = hard_histogram(x, weights, own)
        else:
            found = soft_histogram(x, weights, own, bandwidth=bandwidth)
        return found.contents, found.squares

    def shares(outputs: Array) -> Array:
        x, own = prepared(outputs)
        return soft_shares(x, own, bandwidth=0.0 if bandwidth is None else bandwidth)

    return Fill(sums, shares)


def _from_shares(shares: Array, weights: Array) -> tuple[Array, Array]:
    found = weighted_sums(jnp.stack([weights, weights**2]).astype(shares.dtype), shares)
    return found[0], found[1]


def wide(x: Array) -> Array:
    """Cross the border from the network's precision to that of the statistical part."""
    return x.astype(float)
