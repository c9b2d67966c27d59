"""The share of each event in each bin: what every soft binning amounts to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana.hist._bkde import clean, gaussian_step
from difana.hist._checks import check_edges, check_flow, check_positive

Shares = Callable[[Float[Array, "events observables"]], Float[Array, "events bins"]]
"""A binning of one's own: outputs of the network -> shares of each event, which sum to 1."""


def soft_shares(
    x: Float[Array, " events"],
    edges: Float[Array, " edges"],
    *,
    bandwidth: Float[Array, ""] | float,
    flow: str = "fold",
) -> Float[Array, "events bins"]:
    r"""Return the share of each event in each bin of a soft histogram.

    .. math:: S_{ij} = \Phi\left(\tfrac{e_{j+1} - x_i}{h}\right)
              - \Phi\left(\tfrac{e_j - x_i}{h}\right)

    ``weights @ S`` are the contents and ``weights**2 @ S`` the squares of :func:`soft_histogram`.
    One matrix product then serves any number of weight variations; the matrix is stored, so give
    it chunks of events. Differentiated by JAX, to any order, with respect to everything.

    Args:
        x: Observable of the events ``[events]``.
        edges: Increasing bin edges ``[bins + 1]`` in units of ``x``, may be traced.
        bandwidth: Width ``h >= 0`` of the kernel in units of ``x``; 0 is a hard histogram.
        flow: ``"fold"`` or ``"drop"``, as in :func:`soft_histogram`.

    Returns:
        The shares, in the dtype of ``x``.

    Raises:
        InputError: Outside jit, for edges that do not increase or a negative bandwidth.

    Example:
        >>> import jax.numpy as jnp
        >>> x, edges = jnp.array([0.2, 0.5]), jnp.array([0.0, 0.5, 1.0])
        >>> soft_shares(x, edges, bandwidth=0.1).round(3).tolist()
        [[0.999, 0.001], [0.5, 0.5]]
    """
    check_flow(flow)
    edges = check_edges(edges).astype(x.dtype)
    bandwidth = check_positive(bandwidth, name="bandwidth", zero=True).astype(x.dtype)
    return raw_shares(x, jnp.ones_like(x), edges, bandwidth, flow)


def raw_shares(x: Array, weights: Array, edges: Array, bandwidth: Array, flow: str) -> Array:
    """Return the shares without checks; NaN of weight zero counts as padding."""
    x, _ = clean(x, weights)
    x = x[:, None]
    if flow == "drop":
        closed = (jnp.arange(len(edges)) == len(edges) - 1)[None, :]
        return jnp.diff(gaussian_step(edges[None, :], x, bandwidth, closed=closed)[0], axis=1)
    steps, _ = gaussian_step(edges[None, 1:-1], x, bandwidth)
    # NaN stays visible in the open bins too
    nothing = jnp.where(jnp.isnan(x), x, 0)
    return jnp.diff(jnp.concatenate([nothing, steps, nothing + 1], axis=1), axis=1)


def soft_regions(
    edges: Float[Array, "regions edges"],
    *,
    bandwidth: Float[Array, ""] | float,
    temperature: Float[Array, ""] | float = 1.0,
    hard: bool = False,
) -> Shares:
    r"""Return the binning in regions that the network chooses, each with bins of its own.

    .. math:: S_{i,(r,j)} = \mathrm{softmax}_r(z_i/\tau)\; S^{(r)}_{ij}

    with column 0 of the outputs the observable of the bins and columns ``1, ..., regions`` the
    logits ``z`` of the regions. The bins of all regions stand in one row, region by region: a
    channel of them has the same likelihood as one channel a region.

    Args:
        edges: Bin edges of each region, one row each.
        bandwidth: Width of the kernel, in units of the observable.
        temperature: Temperature :math:`\tau > 0` of the soft assignment.
        hard: Put each event wholly into its likeliest region and its bin: for the final figures.

    Returns:
        A function of the outputs ``[events, 1 + regions]``, for ``edges=`` of
        ``channel_from_events`` and of every likelihood loss.

    Raises:
        InputError: For edges that are no table of rows, a temperature that is not positive or
            outputs of another width.

    Example:
        >>> import jax.numpy as jnp
        >>> binning = soft_regions(jnp.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]), bandwidth=0.0)
        >>> outputs = jnp.array([[0.5, 0.0, 0.0], [1.5, 0.0, 50.0]])
        >>> binning(outputs).round(3).tolist()
        [[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    shape = jnp.shape(edges)
    if len(shape) != 2:
        raise InputError(f"edges have shape {shape}; give one row of edges a region")
    rows = tuple(check_edges(row, name=f"edges[{region}]") for region, row in enumerate(edges))
    check_positive(temperature, name="temperature", zero=False)

    def shares(outputs: Array) -> Array:
        if outputs.shape[1:] != (1 + len(rows),):
            raise InputError(
                f"{len(rows)} regions need {1 + len(rows)} outputs (observable, then logits); the "
                f"network returns {outputs.shape}"
            )
        x, logits = outputs[:, 0], outputs[:, 1:]
        if hard:
            part = jax.nn.one_hot(jnp.argmax(logits, axis=1), len(rows), dtype=x.dtype)
        else:
            part = jax.nn.softmax(logits / jnp.asarray(temperature, x.dtype), axis=1)
        width: Any = 0.0 if hard else bandwidth
        inside = jax.vmap(lambda row: soft_shares(x, row, bandwidth=width), out_axes=1)
        return (part[:, :, None] * inside(jnp.stack(rows))).reshape(
            len(x), len(rows) * (shape[1] - 1)
        )

    return shares


def product_shares(
    edges: tuple[Float[Array, " edges"], ...],
    *,
    bandwidth: Float[Array, " dims"] | tuple[float, ...] | float,
) -> Shares:
    r"""Return the binning of several observables, with a product of kernels, one an axis.

    .. math:: S_{i,(j,k,\ldots)} = \prod_d S^{(d)}_{i j_d}

    The bins stand in one row, the last axis fastest, as ``soft_histogram_nd`` flattened.

    Args:
        edges: Increasing bin edges, one row an axis: columns ``0, 1, ...`` of the outputs.
        bandwidth: Widths of the kernels, one number or one an axis; 0 is a hard histogram.

    Returns:
        A function of the outputs ``[events, dims]``, for ``edges=`` of ``channel_from_events``.

    Raises:
        InputError: For edges that do not increase, a negative bandwidth or one of other axes, or
            outputs with too few columns.

    Example:
        >>> import jax.numpy as jnp
        >>> edges = jnp.array([0.0, 0.5, 1.0])
        >>> binning = product_shares((edges, edges), bandwidth=0.0)
        >>> binning(jnp.array([[0.2, 0.9], [0.7, 0.1]])).tolist()
        [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    rows = tuple(check_edges(row, name=f"edges[{axis}]") for axis, row in enumerate(edges))
    given = check_positive(bandwidth, name="bandwidth", zero=True)
    if given.shape not in ((), (len(rows),)):
        raise InputError(
            f"bandwidth has shape {given.shape}; give one number, or one for each of the"
            f" {len(rows)} axes"
        )
    widths = jnp.broadcast_to(given.astype(float), (len(rows),))

    def shares(outputs: Array) -> Array:
        if outputs.shape[1] < len(rows):
            raise InputError(
                f"{len(rows)} axes need as many outputs; the network returns {outputs.shape}"
            )
        found = jnp.ones((len(outputs), 1), outputs.dtype)
        for axis, row in enumerate(rows):
            own = soft_shares(outputs[:, axis], row, bandwidth=widths[axis])
            bins = found.shape[1] * own.shape[1]
            found = (found[:, :, None] * own[:, None, :]).reshape(len(outputs), bins)
        return found

    return shares
