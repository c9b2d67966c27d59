"""Yields and their derivatives entry by entry: for models too large for matrices without gaps."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._numerics import add_at, take
from difana.likelihood._clip import clipped
from difana.likelihood.engine._layout import Layout
from difana.likelihood.interpolation import (
    FactorCoefficients,
    factor_coefficients,
    log_factor,
    shift_basis,
)
from difana.likelihood.model import Model
from difana.likelihood.structure import Structure


class Entries(NamedTuple):
    """Templates of all entries."""

    half_sum: Float[Array, " histosys"]
    half_difference: Float[Array, " histosys"]
    factors: FactorCoefficients


class Slopes(NamedTuple):
    """Derivatives of the yields of bins; mixed second ones would need too much memory."""

    jacobian: Float[Array, "bins shared"]
    own: Float[Array, " shared"]  # second derivatives by one parameter, weighted with the pulls
    corners: None = None  # mixed ones too


def entries_of(model: Model) -> Entries:
    """Return half sums and differences of the shifts, and the coefficients of the factors."""
    nominal = model.nominal[model.structure.histosys_row]
    return Entries(
        0.5 * (model.histosys_hi - model.histosys_lo),
        0.5 * (model.histosys_hi + model.histosys_lo) - nominal,
        factor_coefficients(model.normsys_lo, model.normsys_hi),
    )


def forward(
    model: Model, entries: Entries, params: Float[Array, " params"]
) -> tuple[Array, Array, tuple]:
    """Return the additive part of all rows, their factors by normsys, and what derivatives need."""
    s, dtype = model.structure, params.dtype
    additive, scale = model.nominal, jnp.ones(s.row_bin.size, dtype)
    curved, bent, twisted = shift_basis(s.interpolation[1], params)
    if s.histosys_row.size:
        p = s.histosys_parameter
        shifts = take(params, p) * entries.half_sum + take(curved, p) * entries.half_difference
        additive = add_at(additive, s.histosys_row, shifts)
    additive, *corner = clipped(model, additive) if s.clip else (additive,)
    slope = bend = jnp.zeros(0, dtype)
    if s.normsys_block.size:
        alpha = take(params, s.normsys_parameter)
        log, slope, bend = log_factor(s.interpolation[0], alpha, entries.factors)
        logs = add_at(jnp.zeros(s.blocks, dtype), s.normsys_block, log)
        scale = take(jnp.exp(logs), s.row_block)
    return additive, scale, (bent, twisted, slope, bend, corner)


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
    s, dtype, shared = model.structure, rows.dtype, len(layout.shared)
    bent, twisted, slope, bend, corner = memory
    cells, parts = [], []
    own = jnp.zeros(shared + 1, dtype)
    if s.histosys_row.size:
        p, r = s.histosys_parameter, s.histosys_row
        own_scale, raw = scale, entries.half_sum + take(bent, p) * entries.half_difference
        if corner:
            own_scale = scale * corner[0]
            sharp = take(scale * pulls * corner[1], r) * raw**2
            own = add_at(own, layout.column[p], sharp)
        parts.append(raw * take(own_scale, r))
        cells.append((s.row_bin[r], layout.column[p]))
        seconds = take(twisted, p) * entries.half_difference * take(own_scale * pulls, r)
        own = add_at(own, layout.column[p], seconds)
    if s.normsys_block.size:
        entry, row = _rows_of(s)
        target = layout.column[s.normsys_parameter]
        parts.append(take(slope, entry) * take(rows, row))
        cells.append((s.row_bin[row], target[entry]))
        block = add_at(jnp.zeros(s.blocks, dtype), s.row_block, rows * pulls)
        own = add_at(own, target, bend * take(block, s.normsys_block))
    for column in layout.factors.T:
        used = np.flatnonzero(column < len(safe) - 1)
        parts.append(take(rows, used) / take(safe, column[used]))
        cells.append((s.row_bin[used], layout.column[column[used]]))
    jacobian = jnp.zeros((model.bins, shared + 1), dtype)
    if parts:
        where = tuple(np.concatenate(index) for index in zip(*cells, strict=True))
        jacobian = jacobian.at[where].add(jnp.concatenate(parts))
    return Slopes(jacobian[:, :-1], own[:-1])


def _rows_of(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Return normsys entry and row of every row that a normsys scales."""
    first = np.searchsorted(structure.row_block, np.arange(structure.blocks + 1))
    length = np.diff(first)[structure.normsys_block]
    entry = np.repeat(np.arange(len(length)), length)
    offset = np.arange(len(entry)) - np.repeat(np.cumsum(length) - length, length)
    return entry, first[structure.normsys_block][entry] + offset
