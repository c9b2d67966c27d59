"""Static indices of one elimination of private factors."""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._numerics import take
from difana.likelihood.structure import Structure

_DENSE = 1 << 18  # rows x parameters up to which matrices without gaps are faster
_DENSE_NARROW = 1 << 22  # the same with more parameters than bins: fits then need all derivatives
_PRODUCT = 64  # a gather of one number costs as much as so many multiplications in a product
_CONSTANT = 1 << 16  # numbers that a program may hold as a matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Which parameters are eliminated, and where the others stand."""

    owner: np.ndarray  # [bins] private parameter, 0 where there is none
    eliminated: np.ndarray  # [bins] True where there is one
    shared: np.ndarray  # parameters that are not eliminated: what shifts, what scales, the rest
    column: np.ndarray  # [params] place among the shared ones, or their number
    is_private: np.ndarray  # [params]
    bin_of: np.ndarray  # [params] bin of a private parameter, else 0
    factors: np.ndarray  # [rows, longest product] shared factors, padded with their number
    row_private: np.ndarray  # [rows] True where the private factor of its bin acts
    halves: np.ndarray  # [2, bins, rows of a bin] rows with and without it, padded
    dense: bool

    def sum_halves(self, rows: Float[Array, "rows *rest"]) -> Float[Array, "2 bins *rest"]:
        """Sum rows to bins: those with the private factor of their bin, and the others."""
        found = sum_groups(rows, self.halves.reshape(-1, self.halves.shape[-1]))
        return found.reshape(2, self.halves.shape[1], *rows.shape[1:])


def sum_groups(
    rows: Float[Array, "rows *rest"], members: np.ndarray
) -> Float[Array, "groups *rest"]:
    """Sum rows by groups: by a product with a matrix of zeros and ones where that is faster."""
    groups, longest = members.shape
    size = len(rows)
    if rows.ndim > 1 and size <= _PRODUCT * longest and groups * size <= _CONSTANT:
        ones = np.zeros((groups, size + 1), rows.dtype)
        ones[np.arange(groups)[:, None], members] = 1.0
        return jnp.matmul(ones[:, :-1], rows, precision="highest")
    padded = jnp.concatenate([rows, jnp.zeros((1, *rows.shape[1:]), rows.dtype)])
    return jnp.sum(take(padded, members), axis=1)


@functools.lru_cache(maxsize=64)
def alphas_of(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Return the parameters that shift and those that scale; what does both ends one, begins one.

    In this order they are neighbours among the shared parameters: derivatives need no gather.
    """
    shifting = np.unique(structure.histosys_parameter)
    scaling = np.unique(structure.normsys_parameter)
    both = np.intersect1d(shifting, scaling)
    return (
        np.concatenate([np.setdiff1d(shifting, both), both]).astype(np.int32),
        np.concatenate([both, np.setdiff1d(scaling, both)]).astype(np.int32),
    )


def padded_members(group: np.ndarray, groups: int) -> np.ndarray:
    """Return the members of each group, padded with their total number: sums without scatter."""
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=groups)
    found = np.full((groups, max(int(counts.max(initial=0)), 1)), len(group), np.int32)
    starts = np.cumsum(counts) - counts
    found[group[order], np.arange(len(group)) - starts[group[order]]] = order
    return found


@functools.lru_cache(maxsize=64)
def layout_of(structure: Structure, *, eliminate: bool) -> Layout:
    """Return the static indices, with or without elimination of private factors."""
    size, bins, rows = len(structure.parameters), structure.bins, structure.row_bin.size
    private = structure.private.copy() if eliminate else np.full_like(structure.private, size)
    if size and np.count_nonzero(private < size) == size:
        private[np.argmax(private < size)] = size  # a fit steps along one parameter at least
    eliminated = private < size
    is_private = np.zeros(size, bool)
    is_private[private[eliminated]] = True
    bin_of = np.zeros(size, np.int32)
    bin_of[private[eliminated]] = np.flatnonzero(eliminated)
    shifting, scaling = alphas_of(structure)
    first = [*shifting, *np.setdiff1d(scaling, shifting)]
    others = np.setdiff1d(np.flatnonzero(~is_private), first)
    shared = np.concatenate([first, others]).astype(np.int32)
    column = np.full(size + 1, len(shared), np.int32)
    column[shared] = np.arange(len(shared))
    own = private[structure.row_bin][:, None]
    mine = (structure.factors == own) & (own < size)
    row_private = mine.any(axis=1)
    factors = np.where(mine, size, structure.factors)
    halves = padded_members(np.where(row_private, 0, bins) + structure.row_bin, 2 * bins)
    return Layout(
        owner=np.where(eliminated, private, 0),
        eliminated=eliminated,
        shared=shared,
        column=column,
        is_private=is_private,
        bin_of=bin_of,
        factors=factors[:, (factors < size).any(axis=0)],
        row_private=row_private,
        halves=halves.reshape(2, bins, -1),
        dense=rows * len(shared) <= (_DENSE if len(shared) <= bins else _DENSE_NARROW),
    )
