"""The fold-forward test: unfolded simulation against the data at detector level."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from difana._numerics import safe_divide, segment_sums


def columns_of(events: Array) -> Float[Array, "events columns"]:
    """Return the observables; of particles, the sums of their channels."""
    return events if events.ndim == 2 else jnp.sum(events, axis=1)


def equal_bins(reference: Array, bins: int) -> Float[Array, "columns inner"]:
    """Return inner edges between which the reference events are spread evenly."""
    quantiles = jnp.arange(1, bins) / bins
    return jnp.quantile(columns_of(reference), quantiles, axis=0).T


def bin_index(events: Array, inner: Float[Array, "columns inner"]) -> Int[Array, "columns events"]:
    """Return the bin of each event in each column, counted on from column to column."""
    columns = jax.lax.stop_gradient(columns_of(events)).T
    found = jax.vmap(lambda row, x: jnp.searchsorted(row, x, side="right"))(inner, columns)
    return found + (inner.shape[1] + 1) * jnp.arange(len(columns))[:, None]


def binned_sums(
    index: Int[Array, "*levels columns events"],
    weights: Float[Array, "replicas events"],
    size: int,
    level: Int[Array, " replicas"] | None = None,
) -> tuple[Float[Array, "replicas bins"], Float[Array, "replicas bins"]]:
    """Return sums of weights and of their squares in all bins of all columns.

    With ``level`` each replica has bins of its own, ``index[level]``.
    """

    def one(now: tuple[Array, Array | None]) -> tuple[Array, Array]:
        row, where = now[0], index if now[1] is None else index[now[1]]
        flat = jnp.ravel(where)
        sums = [
            segment_sums(jnp.ravel(jnp.broadcast_to(part, where.shape)), flat, size)
            for part in (row, row * row)
        ]
        return sums[0], sums[1]

    return jax.lax.map(one, (weights, level))


def chi2_per_bin(
    data: tuple[Array, Array], simulated: tuple[Array, Array]
) -> Float[Array, " replicas"]:
    r"""Return the mean over the bins of :math:`(d - s)^2 / (\sigma_d^2 + \sigma_s^2)`."""
    pulls = safe_divide((data[0] - simulated[0]) ** 2, data[1] + simulated[1])
    return jnp.mean(pulls, axis=1)
