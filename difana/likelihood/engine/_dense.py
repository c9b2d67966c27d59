"""Yields and their derivatives by matrices without gaps: fastest for models of usual size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._numerics import take
from difana.likelihood._clip import clipped
from difana.likelihood.engine._layout import Layout, alphas_of, padded_members, sum_groups
from difana.likelihood.interpolation import (
    FactorCoefficients,
    factor_coefficients,
    factor_parts,
    shift_basis,
)
from difana.likelihood.model import Model

_TOGETHER = 8  # factors, each above 1e-10, whose product cannot vanish


class Entries(NamedTuple):
    """Templates by row or block, and by the parameters that shift or scale; gaps are neutral."""

    half_sum: Float[Array, "rows shifting"]
    half_difference: Float[Array, "rows shifting"]
    factors: FactorCoefficients  # [blocks * scaling]


class Slopes(NamedTuple):
    """Derivatives of the yields of bins."""

    jacobian: Float[Array, "bins shared"]
    inside: Float[Array, "bins shared"]  # its part from rows with private factors
    own: Float[Array, " shared"]  # second derivatives by one parameter, weighted with the pulls
    mixed: Callable[[], Float[Array, "shared shared"]]  # all second derivatives, weighted
    corners: Callable[[], Float[Array, "shared shared"]] | None  # of clipped yields, where positive


def _spread(
    values: Float[Array, " entries"],
    line: np.ndarray,
    parameter: np.ndarray,
    columns: np.ndarray,
    *,
    lines: int,
) -> Float[Array, "lines columns"]:
    """Return a matrix of entries: a gather, which compiles faster than a scatter."""
    place = np.full((lines, len(columns)), len(line), np.int32)
    order = np.argsort(columns)
    column = order[np.searchsorted(columns, parameter, sorter=order)]
    place[line, column] = np.arange(len(line))
    return take(jnp.concatenate([values, jnp.zeros(1, values.dtype)]), place)


def entries_of(model: Model) -> Entries:
    """Return the templates as matrices."""
    s = model.structure
    nominal = take(model.nominal, s.histosys_row)
    shifting, scaling = alphas_of(s)
    rows = (s.histosys_row, s.histosys_parameter, shifting)
    blocks = (s.normsys_block, s.normsys_parameter, scaling)
    lo, hi = (
        1.0 + _spread(values - 1.0, *blocks, lines=s.blocks).ravel()
        for values in (model.normsys_lo, model.normsys_hi)
    )
    half_sum = 0.5 * (model.histosys_hi - model.histosys_lo)
    half_difference = 0.5 * (model.histosys_hi + model.histosys_lo) - nominal
    return Entries(
        _spread(half_sum, *rows, lines=s.row_bin.size),
        _spread(half_difference, *rows, lines=s.row_bin.size),
        factor_coefficients(lo, hi),
    )


def _wide(
    narrow: Float[Array, "*lines some"], parameters: np.ndarray, layout: Layout
) -> Float[Array, "*lines shared"]:
    """Return columns of some parameters as columns of all shared ones."""
    columns, size = layout.column[parameters], len(layout.shared)
    if (np.diff(columns) == 1).all():  # neighbours
        before = int(columns[0]) if len(columns) else 0
        after = size - before - len(columns)
        return jnp.pad(narrow, [(0, 0)] * (narrow.ndim - 1) + [(before, after)])
    place = np.full(size, narrow.shape[-1], np.int32)
    place[columns] = np.arange(len(parameters))
    padded = jnp.concatenate([narrow, jnp.zeros((*narrow.shape[:-1], 1), narrow.dtype)], axis=-1)
    return padded[..., place]


def forward(
    model: Model, entries: Entries, params: Float[Array, " params"]
) -> tuple[Array, Array, tuple]:
    """Return the additive part of all rows, their factors by normsys, and what derivatives need."""
    s = model.structure
    shifting, scaling = alphas_of(s)
    additive, scale = model.nominal, jnp.ones(s.row_bin.size, params.dtype)
    bent = twisted = jnp.zeros(0, params.dtype)
    if s.histosys_row.size:
        alpha = take(params, shifting)
        curved, bent, twisted = shift_basis(s.interpolation[1], alpha)
        additive = additive + entries.half_sum @ alpha + entries.half_difference @ curved
    additive, *corner = clipped(model, additive) if s.clip else (additive,)
    slope = bend = jnp.zeros((s.blocks, 1), params.dtype)
    if s.normsys_block.size:
        alpha = take(params, scaling)
        each = jnp.broadcast_to(alpha, (s.blocks, alpha.size)).ravel()
        found = factor_parts(s.interpolation[0], each, entries.factors)
        factor, rest, slope, bend = (value.reshape(s.blocks, -1) for value in found)
        missing = -len(scaling) % _TOGETHER
        factor = jnp.pad(factor, [(0, 0), (0, missing)], constant_values=1.0)
        factor = jnp.prod(factor.reshape(s.blocks, -1, _TOGETHER), axis=2)
        log = jnp.sum(jnp.log(factor), axis=1) + jnp.sum(rest, axis=1)
        scale = take(jnp.exp(log), s.row_block)
    return additive, scale, (bent, twisted, slope, bend, corner)


def _cells(layout: Layout, row_block: np.ndarray) -> np.ndarray:
    """Return the row of each half, bin and block, or the number of rows: a block has one a bin."""
    blocks = int(row_block[-1]) + 1
    found = np.full((*layout.halves.shape[:2], blocks), len(row_block), np.int32)
    half, place, which = np.nonzero(layout.halves < len(row_block))
    row = layout.halves[half, place, which]
    found[half, place, row_block[row]] = row
    return found


def derive(
    model: Model,
    entries: Entries,
    layout: Layout,
    memory: tuple,
    *,
    safe: Float[Array, " params+1"],
    rows: Float[Array, " rows"],
    scale: Float[Array, " rows"],
    pulls: Float[Array, " rows"],
) -> Slopes:
    """Return the derivatives of the yields of bins."""
    s, shared, dtype = model.structure, len(layout.shared), rows.dtype
    bent, twisted, slope, bend, corner = memory
    shifting, scaling = alphas_of(s)
    # factors: few parameters, some rows each
    acting = np.unique(layout.factors[layout.factors < len(safe) - 1]).astype(np.int32)
    powers = np.zeros((s.row_bin.size, len(safe)), dtype)
    for column in layout.factors.T:
        np.add.at(powers, (np.arange(len(column)), column), 1.0)
    by_factor = jnp.asarray(powers[:, acting]) / take(safe, acting)

    # what scales is the same for all rows of a block: sums over rows come first
    steering = np.concatenate([scaling, acting])  # neighbours among the shared
    pulled = rows * pulls
    own, shifts = jnp.zeros(shared, dtype), jnp.zeros((s.row_bin.size, 0), dtype)
    members = padded_members(s.row_block, s.blocks)
    by_block = sum_groups(pulled, members)
    split = layout.sum_halves(rows[:, None] * by_factor)
    if s.normsys_block.size:
        padded = jnp.concatenate([rows, jnp.zeros(1, dtype)])
        split = jnp.concatenate([take(padded, _cells(layout, s.row_block)) @ slope, split], axis=2)
        own = own + _wide(by_block @ bend, scaling, layout)
    split = _wide(split, steering, layout)
    corner_of: Callable[[Array], Array] | None = None
    sharp = jnp.zeros(0, dtype)
    if s.histosys_row.size:
        own_scale, raw = scale, entries.half_sum + entries.half_difference * bent
        if corner:
            own_scale, sharp = scale * corner[0], scale * pulls * corner[1]

            def steep(weights: Array) -> Array:
                found = _wide(raw.T @ (weights[:, None] * raw), shifting, layout)
                return _wide(found.T, shifting, layout)

            corner_of = steep

        shifts = own_scale[:, None] * raw
        split = split + _wide(layout.sum_halves(shifts), shifting, layout)
        seconds = twisted * ((own_scale * pulls) @ entries.half_difference)
        own = own + _wide(seconds, shifting, layout)

    def mixed() -> Array:
        # products of relative slopes with those of shifts, of what scales, of factors
        pulled_factor, half = pulled[:, None] * by_factor, 0.5 * by_block[:, None]
        lines = jnp.concatenate([pulls[:, None] * shifts, 0.5 * pulled_factor], axis=1)
        products = by_factor.T @ lines
        if s.normsys_block.size:
            summed = sum_groups(lines, members)
            parts = jnp.split(summed, [len(shifting)], axis=1)
            above = slope.T @ jnp.concatenate([parts[0], half * slope, parts[1]], axis=1)
            left, right = jnp.split(products, [len(shifting)], axis=1)
            turned = above[:, len(shifting) + len(scaling) :].T
            below = jnp.concatenate([left, turned, right], axis=1)
            products = jnp.concatenate([above, below])
        cross = _wide(products[:, : len(shifting)], shifting, layout)
        found = cross + _wide(products[:, len(shifting) :], steering, layout)
        found = _wide(found.T, steering, layout)
        same = cross[np.arange(len(steering)), layout.column[steering]]
        own_twice = own + 2.0 * _wide(same, steering, layout)
        found = jnp.where(np.eye(shared, dtype=bool), own_twice, found + found.T)
        return found if corner_of is None else found + corner_of(sharp)

    corners = None if corner_of is None else partial(corner_of, jnp.maximum(sharp, 0.0))
    return Slopes(split[0] + split[1], split[0], own, mixed, corners)
