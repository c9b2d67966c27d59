"""Soft histograms in more dimensions, by product kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import compensated_add
from difana.hist._checks import (
    aligned,
    cast_edges,
    check_chunk,
    check_edges,
    check_events,
    check_flow,
    check_positive,
    shown_edges,
)
from difana.hist.histogram import Histogram
from difana.hist.shares import raw_shares


def _fill(x: Array, weights: Array, edges: tuple[Array, ...], bandwidth: Array, flow: str) -> Array:
    """Return contents and squares ``[2, *bins]`` of one chunk."""
    product = jnp.stack([weights, weights * weights], axis=1)
    for axis, row in enumerate(edges[:-1]):
        shares = raw_shares(x[:, axis], weights, row, bandwidth[axis], flow)
        product = product[..., None] * shares.reshape(len(x), *[1] * axis, 1, len(row) - 1)
    shares = raw_shares(x[:, -1], weights, edges[-1], bandwidth[-1], flow)
    return jnp.tensordot(product, shares, axes=(0, 0))


@partial(jax.jit, static_argnames=("flow", "chunk"))
def _soft_nd(
    x: Array, weights: Array, edges: tuple[Array, ...], bandwidth: Array, flow: str, chunk: int
) -> Array:
    fill = partial(_fill, flow=flow)
    if len(x) <= chunk:
        return fill(x, weights, edges, bandwidth)
    chunks = -(-len(x) // chunk)
    missing = chunks * chunk - len(x)
    x = jnp.pad(x, ((0, missing), (0, 0))).reshape(chunks, chunk, -1)
    weights = jnp.pad(weights, (0, missing)).reshape(chunks, chunk)

    # recomputed in the backward pass: the shares of all events are never stored
    @jax.checkpoint
    def add(sums: tuple[Array, Array], events: tuple[Array, Array]) -> tuple[tuple, None]:
        return compensated_add(sums, fill(*events, edges, bandwidth)), None

    zero = jnp.zeros((2, *(len(row) - 1 for row in edges)), x.dtype)
    return lax.scan(add, (zero, zero), (x, weights))[0][0]


def soft_histogram_nd(
    x: Float[Array, "events dims"],
    weights: Float[Array, " events"] | None,
    edges: Sequence[Float[Array, " edges"]],
    *,
    bandwidth: Float[Array, " dims"] | Float[Array, ""] | Sequence[float] | float,
    flow: str = "fold",
    chunk: int = 2048,
) -> Histogram:
    r"""Return the soft histogram with a product of Gaussian kernels, one an axis.

    .. math:: n_{j k \ldots} = \sum_i w_i \prod_d
              \left[\Phi\left(\tfrac{e^d_{j_d+1} - x^d_i}{h_d}\right)
              - \Phi\left(\tfrac{e^d_{j_d} - x^d_i}{h_d}\right)\right]

    Differentiable to any order, forward and backward, with respect to everything. Every event
    visits every bin; the memory is linear in events (chunks are recomputed in the backward pass).

    Args:
        x: Observables ``[events, dims]``.
        weights: Weights ``[events]``, of any sign; ``None`` for unit weights.
        edges: Increasing bin edges, one row an axis.
        bandwidth: Widths of the kernels, one number or one an axis, in units of ``x``; 0 is hard.
        flow: ``"fold"`` adds what lies beyond the outer edges to the edge bins, ``"drop"`` loses
            it.
        chunk: Events handled at once.

    Returns:
        The histogram with one dimension an axis.

    Raises:
        InputError: As :func:`soft_histogram`.

    Example:
        >>> import jax.numpy as jnp
        >>> x, edges = jnp.array([[0.2, 1.5], [0.8, 0.5]]), jnp.array([0.0, 0.5, 2.0])
        >>> soft_histogram_nd(x, None, [edges, edges], bandwidth=0.0).values().tolist()
        [[0.0, 1.0], [0.0, 1.0]]
    """
    check_flow(flow)
    check_chunk(chunk)
    rows = tuple(
        check_edges(row, name=f"edges[{axis}]", keep=True) for axis, row in enumerate(edges)
    )
    named = rows
    x, rows = aligned(x, rows)
    x, weights = check_events(x, weights, dims=len(rows))
    if isinstance(bandwidth, list | tuple):
        bandwidth = jnp.stack([jnp.asarray(width) for width in bandwidth])
    bandwidth = check_positive(bandwidth, name="bandwidth", zero=True).astype(x.dtype)
    if bandwidth.shape not in ((), (len(rows),)):
        raise InputError(
            f"bandwidth has shape {bandwidth.shape}; give one number, or one for each of the"
            f" {len(rows)} axes"
        )
    rows = tuple(cast_edges(row, x.dtype) for row in rows)
    widths = jnp.broadcast_to(bandwidth, (len(rows),))
    contents, squares = _soft_nd(x, weights, rows, widths, flow, chunk)
    return Histogram(shown_edges(named, rows), contents, squares)
