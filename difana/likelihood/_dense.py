"""Yields and their derivatives by matrices without gaps: fastest for models of usual size."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana.likelihood._layout import Layout, padded_members
from difana.likelihood.interpolation import (
    FactorCoefficients,
    factor_coefficients,
    log_factor,
    shift_basis,
)
from difana.likelihood.model import Model


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


def _spread(
    values: Float[Array, " entries"], line: np.ndarray, column: np.ndarray, shape: tuple[int, int]
) -> Float[Array, "lines columns"]:
    """Return a matrix of entries: a gather, which compiles faster than a scatter."""
    place = np.full(shape, len(line), np.int32)
    place[line, column] = np.arange(len(line))
    return jnp.concatenate([values, jnp.zeros(1, values.dtype)])[place]


def entries_of(model: Model) -> Entries:
    """Return the templates as matrices."""
    s = model.structure
    nominal = model.nominal[s.histosys_row]
    shifting, column = np.unique(s.histosys_parameter, return_inverse=True)
    place = (s.histosys_row, column, (s.row_bin.size, len(shifting)))
    scaling, column = np.unique(s.normsys_parameter, return_inverse=True)
    block = (s.normsys_block, column, (s.blocks, len(scaling)))
    lo, hi = (
        1.0 + _spread(values - 1.0, *block).ravel()
        for values in (model.normsys_lo, model.normsys_hi)
    )
    return Entries(
        _spread(0.5 * (model.histosys_hi - model.histosys_lo), *place),
        _spread(0.5 * (model.histosys_hi + model.histosys_lo) - nominal, *place),
        factor_coefficients(lo, hi),
    )


def _wide(
    narrow: Float[Array, "lines some"], parameters: np.ndarray, layout: Layout
) -> Float[Array, "lines shared"]:
    """Return columns of some parameters as columns of all shared ones."""
    place = np.full(len(layout.shared), narrow.shape[-1], np.int32)
    place[layout.column[parameters]] = np.arange(len(parameters))
    padded = jnp.concatenate([narrow, jnp.zeros((*narrow.shape[:-1], 1), narrow.dtype)], axis=-1)
    return padded[..., place]


def forward(
    model: Model, entries: Entries, params: Float[Array, " params"]
) -> tuple[Array, Array, tuple]:
    """Return the additive part of all rows, their factors by normsys, and what derivatives need."""
    s = model.structure
    additive, scale = model.nominal, jnp.ones(s.row_bin.size, params.dtype)
    bent = twisted = jnp.zeros(0, params.dtype)
    if s.histosys_row.size:
        alpha = params[np.unique(s.histosys_parameter)]
        curved, bent, twisted = shift_basis(s.interpolation[1], alpha)
        additive = additive + entries.half_sum @ alpha + entries.half_difference @ curved
    slope = bend = jnp.zeros((s.blocks, 1), params.dtype)
    if s.normsys_block.size:
        alpha = params[np.unique(s.normsys_parameter)]
        each = jnp.broadcast_to(alpha, (s.blocks, alpha.size)).ravel()
        found = log_factor(s.interpolation[0], each, entries.factors)
        log, slope, bend = (value.reshape(s.blocks, -1) for value in found)
        scale = jnp.exp(jnp.sum(log, axis=1))[s.row_block]
    return additive, scale, (bent, twisted, slope, bend)


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
    bent, twisted, slope, bend = memory
    # factors: few parameters, some rows each
    acting = np.unique(layout.factors[layout.factors < len(safe) - 1]).astype(np.int32)
    powers = np.zeros((s.row_bin.size, len(safe)), dtype)
    for column in layout.factors.T:
        np.add.at(powers, (np.arange(len(column)), column), 1.0)
    by_factor = jnp.asarray(powers[:, acting]) / safe[acting]
    relative = _wide(by_factor, acting, layout)
    shifts = jnp.zeros((s.row_bin.size, shared), dtype)
    own = jnp.zeros(shared, dtype)
    blocks = padded_members(s.row_block, s.blocks)
    if s.histosys_row.size:
        shifting = np.unique(s.histosys_parameter)
        slopes = scale[:, None] * (entries.half_sum + entries.half_difference * bent)
        shifts = _wide(slopes, shifting, layout)
        seconds = twisted * ((scale * pulls) @ entries.half_difference)
        own = own + _wide(seconds, shifting, layout)
    scaling = np.unique(s.normsys_parameter)
    if s.normsys_block.size:
        relative = relative + _wide(slope, scaling, layout)[s.row_block]
        weighted = jnp.concatenate([rows * pulls, jnp.zeros(1, dtype)])
        own = own + _wide(jnp.sum(weighted[blocks], axis=1) @ bend, scaling, layout)
    split = layout.sum_halves(shifts + rows[:, None] * relative)

    def mixed() -> Array:
        half = (shifts + (0.5 * rows)[:, None] * relative) * pulls[:, None]
        found = _wide(half.T @ by_factor, acting, layout)
        if s.normsys_block.size:  # the same for all bins of a template
            padded = jnp.concatenate([half, jnp.zeros((1, shared), dtype)])
            found = found + _wide(jnp.sum(padded[blocks], axis=1).T @ slope, scaling, layout)
        twice = 2.0 * jnp.sum(shifts * relative * pulls[:, None], axis=0)
        eye = np.eye(shared, dtype=bool)
        return jnp.where(eye, jnp.diag(own + twice), found + found.T)

    return Slopes(split[0] + split[1], split[0], own, mixed)
