"""Template sums in tiles: some events of one variation at a time, recomputed in the reverse pass.

Memory is that of one tile, whatever the number of events and variations, and the graph holds the
network twice (nominal events, varied events), whatever the number of samples and nuisances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from difana.data import Given, Sample, check_inputs, features_of, moved, variants
from difana.likelihood.templates._fill import Fill, wide
from difana.likelihood.templates.sums import TemplateSums


class _Tile(NamedTuple):
    """Events that are stored together."""

    inputs: Given
    weights: Array


class _Pass(NamedTuple):
    """One histogram that needs the network: a block, transformed or as it is."""

    slot: int  # row of the contents
    block: int
    function: int  # 0: as it is
    alpha: float


def tiled_sums(
    outputs: Callable[[Given], Array], samples: Sequence[Sample], fill: Fill, *, chunk: int
) -> TemplateSums:
    """Return the sums of all histograms, ``chunk`` events at a time.

    Args:
        outputs: The network, checked.
        samples: The samples.
        fill: The binning.
        chunk: Events of a tile.
    """
    check_inputs(samples)
    blocks: list[_Tile] = [_Tile(s.nominal.inputs, s.nominal.weights) for s in samples]
    functions: list[Callable] = []
    varied: list[_Pass] = []
    nominal_slots: list[int] = []
    weighted: list[tuple[int, list[int], list[Array]]] = []  # sample, slots, weights
    slots = 0
    for i, sample in enumerate(samples):
        nominal_slots.append(slots)
        own: tuple[int, list[int], list[Array]] = (i, [], [])
        for slot, row in enumerate(variants(sample)[1:], start=slots + 1):
            if row.function is not None:
                if row.function not in functions:
                    functions.append(row.function)
                which = functions.index(row.function) + 1
                varied.append(_Pass(slot, i, which, row.alpha))
            elif row.sees(sample.nominal):
                own[1].append(slot)
                own[2].append(row.weights)
            else:
                varied.append(_Pass(slot, len(blocks), 0, 0.0))
                blocks.append(_Tile(row.inputs, row.weights))
        slots += len(variants(sample))
        if own[1]:
            weighted.append(own)
    sizes = [len(block.weights) for block in blocks]
    chunk = max(1, min(chunk, max(sizes)))
    blocks = [jax.tree.map(partial(_padded, chunk=chunk), block) for block in _alike(blocks)]

    def events(block: Array, start: Array, first: Array) -> tuple[Given, Array]:
        """Return one tile; what an earlier tile has counted gets weight zero."""
        found = _switch(block, [partial(_cut, own, chunk=chunk) for own in blocks], start)
        weights = jnp.where(start + jnp.arange(chunk) >= first, found.weights, 0)
        return found.inputs, weights

    def filled(x: Given, weights: Array) -> tuple[Array, Array, Array]:
        out = outputs(x)
        contents, squares = fill.sums(out, weights.astype(out.dtype))
        return wide(contents), wide(squares), out

    # recomputed in the reverse pass; a loop needs no protection against merging
    remat = partial(jax.checkpoint, prevent_cse=False)

    @remat
    def nominal_tile(tile: tuple[Array, ...]) -> tuple[Array, Array, Array]:
        return filled(*events(*tile))

    @remat
    def varied_tile(tile: tuple[Array, ...]) -> Array:
        *where, function, alpha = tile
        x, weights = events(*where)
        apply = [lambda x, alpha: x, *(partial(moved, own) for own in functions)]
        x = _switch(function, apply, x, alpha.astype(features_of(x).dtype))
        return filled(x, weights)[0]

    tiles = _tiles([_Pass(slot, i, 0, 0.0) for i, slot in enumerate(nominal_slots)], sizes, chunk)
    parts, squares, scores = lax.map(nominal_tile, tiles.places)
    bins = parts.shape[1]
    contents = jnp.zeros((slots, bins), parts.dtype).at[tiles.slot].add(parts)
    of_sample = np.searchsorted(nominal_slots, tiles.slot)
    scale = jnp.stack([jnp.asarray(s.variance_scale) for s in samples]).astype(squares.dtype)
    variances = jnp.zeros((len(samples), bins), squares.dtype).at[of_sample].add(squares)
    for i, rows, weights in weighted:
        mine = np.flatnonzero(of_sample == i)
        found = _weighted(weights, scores[mine], tiles.at(mine), fill, chunk=chunk, remat=remat)
        contents = contents.at[np.asarray(rows)].add(found)
    if varied:
        tiles = _tiles(varied, sizes, chunk)
        parts = lax.map(varied_tile, (*tiles.places, tiles.function, tiles.alpha))
        contents = contents.at[tiles.slot].add(parts)
    return TemplateSums(contents, variances * scale[:, None])


class _Tiles(NamedTuple):
    """Where each tile finds its events, and where its sums go."""

    slot: np.ndarray
    block: np.ndarray
    start: np.ndarray  # first event taken
    first: np.ndarray  # first event that counts
    function: np.ndarray
    alpha: np.ndarray

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.block, self.start, self.first

    def at(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.start[index], self.first[index]


def _tiles(passes: Sequence[_Pass], sizes: Sequence[int], chunk: int) -> _Tiles:
    rows = [
        (p.slot, p.block, max(min(first, sizes[p.block] - chunk), 0), first, p.function, p.alpha)
        for p in passes
        for first in range(0, sizes[p.block], chunk)
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    kinds = (np.int32,) * 5 + (np.float32,)
    return _Tiles(*(np.asarray(c, kind) for c, kind in zip(columns, kinds, strict=True)))


def _weighted(
    weights: Sequence[Array],
    scores: Array,
    places: tuple[np.ndarray, np.ndarray],
    fill: Fill,
    *,
    chunk: int,
    remat: Callable,
) -> Array:
    """Return the contents of other weights of the same events: one matrix product a tile."""
    rows = [_padded(row, chunk) for row in weights]

    @remat
    def tile(given: tuple[Array, Array, Array]) -> Array:
        out, start, first = given
        shares = fill.shares(out)
        cut = jnp.stack([lax.dynamic_slice_in_dim(row, start, chunk) for row in rows])
        cut = jnp.where(start + jnp.arange(chunk) >= first, cut, 0)
        return wide(cut.astype(shares.dtype) @ shares)

    return jnp.sum(lax.map(tile, (scores, *places)), axis=0)


def _switch(index: Array, branches: Sequence[Callable], *operands: Any):
    return branches[0](*operands) if len(branches) == 1 else lax.switch(index, branches, *operands)


def _cut(block: _Tile, start: Array, *, chunk: int) -> _Tile:
    return jax.tree.map(lambda rows: lax.dynamic_slice_in_dim(rows, start, chunk), block)


def _alike(blocks: Sequence[_Tile]) -> list[_Tile]:
    """Return the blocks with inputs of the same types: one program goes through all."""
    columns = zip(*(jax.tree.leaves(block.inputs) for block in blocks), strict=True)
    dtypes = [jnp.result_type(*leaves) for leaves in columns]
    found = []
    for block in blocks:
        leaves, structure = jax.tree.flatten(block.inputs)
        cast = [leaf.astype(dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)]
        found.append(_Tile(jax.tree.unflatten(structure, cast), block.weights))
    return found


def _padded(rows: Array, chunk: int) -> Array:
    """Return at least ``chunk`` rows: the last one again, or nothing (weights)."""
    missing = chunk - len(rows)
    if missing <= 0:
        return rows
    if rows.ndim == 1 or not len(rows):
        return jnp.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))
    return jnp.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1), mode="edge")
