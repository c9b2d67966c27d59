"""Hard histograms: exact, inside jit, in one or more dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._numerics import segment_sums
from difana.hist._checks import (
    aligned,
    cast_edges,
    check_edges,
    check_events,
    check_flow,
    shown_edges,
)
from difana.hist.histogram import Histogram


@partial(jax.jit, static_argnames="flow")
def _hard(x: Array, weights: Array, edges: tuple[Array, ...], flow: str) -> tuple[Array, Array]:
    shape = tuple(len(row) - 1 for row in edges)
    index, inside = jnp.zeros(len(x), jnp.int32), jnp.ones(len(x), bool)
    for axis, (row, bins) in enumerate(zip(edges, shape, strict=True)):
        column = x[:, axis]
        found = jnp.searchsorted(row, column, side="right") - 1
        inside &= (column >= row[0]) & (column <= row[-1])
        index = index * bins + jnp.clip(found, 0, bins - 1)
    nan = jnp.any(jnp.isnan(x), axis=1) & (weights != 0)
    kept = weights if flow == "fold" else jnp.where(inside, weights, 0)
    kept = jnp.where(nan, jnp.nan, kept)
    size = int(np.prod(shape))
    contents, squares = (segment_sums(row, index, size) for row in (kept, kept * kept))
    return contents.reshape(shape), squares.reshape(shape)


def hard_histogram(
    x: Float[Array, " events"] | Float[Array, "events dims"],
    weights: Float[Array, " events"] | None,
    edges: Float[Array, " edges"] | Sequence[Float[Array, " edges"]],
    *,
    flow: str = "fold",
) -> Histogram:
    r"""Return the ordinary weighted histogram, :math:`n_j = \sum_i w_i [e_j \le x_i < e_{j+1}]`.

    An event on an edge goes to the upper bin, on the last edge to the last bin (as in NumPy).
    Differentiable in ``weights`` only; the derivative with respect to ``x`` and ``edges`` is zero.

    Args:
        x: Observable ``[events]``, or ``[events, dims]`` for a histogram in more dimensions.
        weights: Weights ``[events]``, of any sign; ``None`` for unit weights.
        edges: Increasing edges ``[bins + 1]``; a list of them, one an axis, if ``x`` has columns.
        flow: ``"fold"`` adds events beyond the outer edges to the edge bins, ``"drop"`` loses them.

    Returns:
        The histogram, in the dtype of ``x`` and ``weights``.

    Raises:
        InputError: Outside jit, for wrong shapes, edges that do not increase, NaN in ``x`` or a
            weight that is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([-1.0, 0.5, 1.0, 7.0])
        >>> hard_histogram(x, None, jnp.array([0.0, 0.5, 1.0])).values().tolist()
        [1.0, 3.0]
        >>> hard_histogram(x, None, jnp.array([0.0, 0.5, 1.0]), flow="drop").values().tolist()
        [0.0, 2.0]
    """
    check_flow(flow)
    if jnp.ndim(x) == 2 and isinstance(edges, list | tuple):
        named = tuple(
            check_edges(row, name=f"edges[{axis}]", keep=True) for axis, row in enumerate(edges)
        )
        x, rows = aligned(x, named)
        x, weights = check_events(x, weights, dims=len(rows))
    else:
        named = (check_edges(edges, keep=True),)
        x, rows = aligned(x, named)
        x, weights = check_events(x, weights)
        x = x[:, None]
    rows = tuple(cast_edges(row, x.dtype) for row in rows)
    contents, squares = _hard(jax.lax.stop_gradient(x), weights, rows, flow)
    return Histogram(shown_edges(named, rows), contents, squares)
