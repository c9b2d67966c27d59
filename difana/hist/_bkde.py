"""The one-dimensional kernel sums and their custom derivative.

For interior edges ``e_1 < ... < e_n`` and the soft step ``F_j(x) = Phi((e_j - x) / h)`` with
``F_0 = 0`` and ``F_{n+1} = 1`` bin ``j = 0..n`` holds ``sum_i w_i [F_{j+1} - F_j](x_i)``. An event
touches only the bins near it: beyond ``reach`` bandwidths the step is 0 or 1 to the last bit.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Int

from difana._numerics import compensated_add

DENSE = 16
"""Up to this many interior edges every event visits every edge: no search, gather or scatter."""

_FAR = 40.0  # the density is exactly zero there, and 0 * inf cannot arise


def reach(dtype: jnp.dtype) -> float:
    """Return the number of bandwidths beyond which the kernel is below the last bit."""
    return 6.0 if jnp.finfo(dtype).bits <= 32 else 8.5


def gaussian_step(
    edge: Array, x: Array, bandwidth: Array, *, closed: Array | None = None
) -> tuple[Array, Array]:
    """Return ``Phi((edge - x) / h)`` and the guarded ``z``; a hard step where ``h`` is 0.

    ``closed`` counts ``x == edge`` as below the edge, in the hard limit.
    """
    soft = bandwidth > jnp.finfo(x.dtype).tiny
    z = jnp.clip((edge - x) / jnp.where(soft, bandwidth, 1), -_FAR, _FAR)
    below = x < edge if closed is None else (x < edge) | ((x == edge) & closed)
    # NaN must stay visible in the hard limit too
    hard = jnp.where(jnp.isnan(x), x, below.astype(x.dtype))
    return jnp.where(soft, 0.5 + 0.5 * lax.erf(z * 0.5**0.5), hard), z


def _density(z: Array, bandwidth: Array) -> Array:
    """Return ``phi(z) / h``, and 0 where ``h`` is 0."""
    soft = bandwidth > jnp.finfo(z.dtype).tiny
    scale = jnp.where(soft, 0.3989422804014327 / jnp.where(soft, bandwidth, 1), 0)
    return jnp.exp(-0.5 * z * z) * scale.astype(z.dtype)


def clean(x: Array, weights: Array) -> tuple[Array, Bool[Array, " events"]]:
    """Return ``x`` made finite, and which events are padding (NaN of weight zero)."""
    padding = jnp.isnan(x) & (weights == 0)
    huge = jnp.finfo(x.dtype).max / 4
    return jnp.clip(jnp.where(padding, 0, x), -huge, huge), padding


def _last_offset(edges: Float[Array, " edges"], bandwidth: Array) -> Int[Array, ""] | int:
    """Return how many edges a kernel can cover: the trip count, whatever the events."""
    size = edges.shape[0]
    if size <= DENSE:
        return size
    scale = jnp.max(jnp.where(jnp.isfinite(edges), jnp.abs(edges), 0))
    rounding = 4 * jnp.finfo(edges.dtype).eps * scale
    span = 2 * reach(edges.dtype) * bandwidth * (1 + 1e-5) + rounding
    upper = jnp.searchsorted(edges, edges + span, side="right")
    return jnp.max(upper - jnp.arange(size, dtype=upper.dtype)).astype(jnp.int32)


def _first_edge(
    x: Float[Array, " events"], edges: Float[Array, " edges"], bandwidth: Array
) -> Int[Array, "..."]:
    """Return the index of the first edge within reach of each event."""
    size = edges.shape[0]
    if size <= DENSE:
        return jnp.int32(0)
    below = x - reach(edges.dtype) * bandwidth
    # branchless bisection: vectorises, unlike jnp.searchsorted (2x faster on CPU)
    step = 1 << size.bit_length() >> 1
    table = jnp.pad(edges, (0, 2 * step - size), constant_values=jnp.inf)
    first = jnp.zeros(x.shape, jnp.int32)
    while step:
        probe = table.at[first + (step - 1)].get(mode="promise_in_bounds")
        first = jnp.where(probe < below, first + step, first)
        step //= 2
    return first


def _closed(index: Array, size: int, flow: str) -> Array | None:
    """Return where the edge is the last of the histogram, which NumPy counts to its last bin."""
    return index == size - 1 if flow == "drop" else None


def _take(table: Array, index: Array) -> Array:
    return table.at[index].get(mode="promise_in_bounds")


def _deposit(table: Array, index: Array, rows: Array, values: Array) -> Array:
    """Add ``rows * values`` (``rows [events, columns]``) at the bins of the events."""
    if index.ndim == 0:  # sums of vectors: a matrix product adds all events one by one
        return table.at[index].add(jnp.stack([jnp.dot(values, row) for row in rows.T]))
    return table.at[index].add(rows * values[:, None], mode="promise_in_bounds")


def _stripes(size: int, events: int) -> int:
    """Return how many partial sums a scatter of so many edges has: one would lose digits."""
    return max(1, min(32, events // (8 * (size + 1))))


def _fill(
    x: Array, weights: Array, edges: Array, bandwidth: Array, last: Array | int, *, flow: str
) -> Float[Array, "bins 2"]:
    """Return contents and squares of one chunk."""
    size = edges.shape[0]
    x, _ = clean(x, weights)
    first = _first_edge(x, edges, bandwidth)
    rows = jnp.stack([weights, weights * weights], axis=1)
    table = jnp.pad(edges, (0, 1))
    stripes = 1 if size <= DENSE else _stripes(size, x.shape[0])
    stripe = (size + 1) * (jnp.arange(x.shape[0], dtype=jnp.int32) % stripes)

    def visit(offset: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        sums, lower = carry
        index = jnp.minimum(first + offset, size)
        step, _ = gaussian_step(
            _take(table, index), x, bandwidth, closed=_closed(index, size, flow)
        )
        # all mass is below the last edge visited: nothing is lost
        step = jnp.where((index == size) | (offset == last), _one(x), step)
        where = index if size <= DENSE else index + stripe
        return _deposit(sums, where, rows, step - lower), step

    start = (jnp.zeros((stripes * (size + 1), 2), x.dtype), jnp.zeros_like(x))
    sums = lax.fori_loop(0, last + 1, visit, start)[0]
    return jnp.sum(sums.reshape(stripes, size + 1, 2), axis=0)


def _one(x: Array) -> Array:
    """Return 1, or NaN for NaN."""
    return jnp.where(jnp.isnan(x), x, 1).astype(x.dtype)


_INPUTS = ("x", "weights", "edges", "bandwidth")


def _pull(
    x: Array,
    weights: Array,
    fresh: Array | None,
    edges: Array,
    bandwidth: Array,
    last: Array | int,
    cotangents: tuple[Array | None, Array | None],
    *,
    flow: str,
) -> dict[str, Array]:
    """Return the cotangents of one chunk: per event for x and weights, summed for the rest.

    What the caller does not use is removed by the compiler, also from the loop.
    """
    size = edges.shape[0]
    x, padding = clean(x, weights)
    first = _first_edge(x, edges, bandwidth)
    table = jnp.pad(edges, (0, 1))
    # a yield that is not used (often the squares) has no cotangent and costs nothing
    pairs = zip(cotangents, (weights, weights**2), (jnp.ones_like(x), 2 * weights), strict=True)
    active = [
        (g, jnp.append(g[:-1] - g[1:], 0).astype(x.dtype), power, slope)
        for g, power, slope in pairs
        if g is not None
    ]

    def visit(offset: Array, carry: tuple[dict[str, Array], Array]) -> tuple:
        old, lower = carry
        index = jnp.minimum(first + offset, size)
        step, z = gaussian_step(
            _take(table, index), x, bandwidth, closed=_closed(index, size, flow)
        )
        step = jnp.where((index == size) | (offset == last), _one(x), step)
        pull = sum(power * _take(jump, index) for _, jump, power, _ in active)
        gain = sum(slope * _take(g, index) for g, _, _, slope in active)
        flux = _density(z, bandwidth) * pull
        counted = flux if fresh is None else jnp.where(fresh, flux, 0)
        new = {
            "x": old["x"] - flux,
            "weights": old["weights"] + (step - lower) * gain,
            "edges": _deposit(old["edges"], index, jnp.ones((x.shape[0], 1), x.dtype), counted),
            "bandwidth": old["bandwidth"] - counted * z,
        }
        return new, step

    start = {name: jnp.zeros_like(x) for name in _INPUTS}
    start["edges"] = jnp.zeros((size + 1, 1), x.dtype)
    out, _ = lax.fori_loop(0, last + 1, visit, (start, jnp.zeros_like(x)))
    return {
        "x": jnp.where(padding, 0, out["x"]),
        "weights": jnp.where(padding, 0, out["weights"]),
        "edges": out["edges"][:-1, 0],
        "bandwidth": jnp.sum(out["bandwidth"]),
    }


def _chunk(index: Array, x: Array, weights: Array, chunk: int) -> tuple[Array, Array, Array, Array]:
    """Return start, x, weights and the fresh events of one chunk; the last one overlaps.

    Slices and an overlap instead of padding: padding would copy the whole input.
    """
    start = jnp.minimum(index * chunk, x.shape[0] - chunk)
    fresh = start + jnp.arange(chunk) >= index * chunk
    cut = partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=chunk)
    return start, cut(x), cut(weights), fresh


def _forward(
    x: Array, weights: Array, edges: Array, bandwidth: Array, flow: str, chunk: int
) -> tuple[Array, Array]:
    last = _last_offset(edges, bandwidth)
    if x.shape[0] <= chunk:
        sums = _fill(x, weights, edges, bandwidth, last, flow=flow)
        return sums[:, 0], sums[:, 1]

    def add(index: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        _, x_now, weights_now, fresh = _chunk(index, x, weights, chunk)
        weights_now = jnp.where(fresh, weights_now, 0)
        new = _fill(x_now, weights_now, edges, bandwidth, last, flow=flow)
        return compensated_add(sums, new)

    zero = jnp.zeros((edges.shape[0] + 1, 2), x.dtype)
    sums, _ = lax.fori_loop(0, -(-x.shape[0] // chunk), add, (zero, zero))
    return sums[:, 0], sums[:, 1]


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def kernel_sums(
    x: Float[Array, " events"],
    weights: Float[Array, " events"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, ""],
    flow: str,
    chunk: int,
) -> tuple[Float[Array, " bins"], Float[Array, " bins"]]:
    """Return sums of weights and of squared weights between the interior edges.

    Args:
        x: Observable of the events.
        weights: Weights of the events.
        edges: Edges ``[edges]``; the first and the last of the ``edges + 1`` bins are open.
        bandwidth: Width of the Gaussian kernel, 0 for a hard histogram.
        flow: With ``"drop"`` the last edge belongs to the bin below it (hard limit only).
        chunk: Events handled at once.
    """
    return _forward(x, weights, edges, bandwidth, flow, chunk)


def _kernel_sums_fwd(x, weights, edges, bandwidth, flow, chunk):
    inputs = (x.value, weights.value, edges.value, bandwidth.value)
    return _forward(*inputs, flow, chunk), inputs


def _kernel_sums_bwd(flow, chunk, residuals, cotangents):
    x, weights, edges, bandwidth = residuals
    contents, squares = (None if isinstance(g, SymbolicZero) else g for g in cotangents)
    if contents is None and squares is None:
        return None, None, None, None
    last = _last_offset(edges, bandwidth)
    pull = partial(_pull, flow=flow)
    if x.shape[0] <= chunk:
        out = pull(x, weights, None, edges, bandwidth, last, (contents, squares))
        return tuple(out[name] for name in _INPUTS)

    def add(index: Array, out: dict[str, Array]) -> dict[str, Array]:
        start, x_now, weights_now, fresh = _chunk(index, x, weights, chunk)
        new = pull(x_now, weights_now, fresh, edges, bandwidth, last, (contents, squares))
        return {
            name: lax.dynamic_update_slice_in_dim(old, new[name], start, 0)
            if name in ("x", "weights")
            else old + new[name]
            for name, old in out.items()
        }

    zero = {name: jnp.zeros_like(row) for name, row in zip(_INPUTS, residuals, strict=True)}
    out = lax.fori_loop(0, -(-x.shape[0] // chunk), add, zero)
    return tuple(out[name] for name in _INPUTS)


kernel_sums.defvjp(_kernel_sums_fwd, _kernel_sums_bwd, symbolic_zeros=True)
