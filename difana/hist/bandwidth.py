"""Bandwidth policies: relative to the bins, learned; and the bias that a bandwidth makes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide
from difana.hist._checks import check_edges
from difana.hist.hard import hard_histogram
from difana.hist.soft import soft_histogram


def bin_coordinate(
    x: Float[Array, " events"], edges: Float[Array, " edges"]
) -> Float[Array, " events"]:
    r"""Return the observable counted in bins: :math:`u = j + (x - e_j)/(e_{j+1} - e_j)`.

    In ``u`` every bin is 1 wide, so one bandwidth there is a bandwidth for each bin, relative to
    its width. Beyond the outer edges the map goes on with the width of the outer bin.
    Differentiated by JAX with respect to ``x`` and ``edges`` (one-sided at an edge).

    Args:
        x: Observable of the events ``[events]``.
        edges: Increasing bin edges ``[bins + 1]`` in units of ``x``, may be traced.

    Returns:
        ``u``, between 0 and the number of bins inside the edges.

    Raises:
        InputError: Outside jit, for edges that do not increase.

    Example:
        >>> import jax.numpy as jnp
        >>> x, edges = jnp.array([0.5, 2.0, 5.0]), jnp.array([0.0, 1.0, 3.0])
        >>> bin_coordinate(x, edges).tolist()
        [0.5, 1.5, 3.0]
    """
    edges = check_edges(edges).astype(x.dtype)
    inside = jnp.searchsorted(jax.lax.stop_gradient(edges)[1:-1], x, side="right")
    low, high = edges[inside], edges[inside + 1]
    return inside.astype(x.dtype) + (x - low) / (high - low)


class LearnedBandwidth(eqx.Module):
    r"""A bandwidth that a gradient may move, between two bounds.

    .. math:: h = a\,(b/a)^{\sigma(r)}

    Without the lower bound training shrinks it to nothing where the gradient has no events; with
    a soft loss alone it may also grow to blur a bin that is short of simulation.

    Attributes:
        raw: The free parameter ``r``.
        low: Lower bound ``a`` (static).
        high: Upper bound ``b`` (static).

    Example:
        >>> bandwidth = LearnedBandwidth.start(0.2, low=0.05, high=0.5)
        >>> round(float(bandwidth.value), 6)
        0.2
    """

    raw: Float[Array, ""]
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    @classmethod
    def start(cls, value: float, *, low: float, high: float) -> LearnedBandwidth:
        """Return the bandwidth that starts at ``value``.

        Args:
            value: Start, in units of the observable (or of the bin width).
            low: Lower bound, positive.
            high: Upper bound.

        Raises:
            InputError: If not ``0 < low < value < high``.
        """
        if not 0 < low < value < high:
            raise InputError(
                f"bandwidth {value} between {low} and {high}: needs 0 < low < it < high"
            )
        part = np.log(value / low) / np.log(high / low)
        return cls(jnp.asarray(np.log(part / (1 - part)), float), float(low), float(high))

    @property
    def value(self) -> Float[Array, ""]:
        """The bandwidth."""
        return self.low * (self.high / self.low) ** jax.nn.sigmoid(self.raw)


def soft_hard_bias(
    x: Float[Array, " events"],
    weights: Float[Array, " events"] | None,
    edges: Float[Array, " edges"],
    *,
    bandwidth: Float[Array, ""] | float,
    relative: bool = False,
) -> Float[Array, " bins"]:
    r"""Return how far the soft yields are from the hard ones, :math:`(s_j - n_j)/n_j`, bin by bin.

    The bias monitor of a training: ``{"bias": jnp.max(jnp.abs(soft_hard_bias(...)))}`` in the aux
    of a loss puts it into the history. It carries no gradient.

    Args:
        x: Observable of the events ``[events]``.
        weights: Weights ``[events]``; ``None`` for unit weights.
        edges: Increasing bin edges ``[bins + 1]``.
        bandwidth: Width of the kernel of the soft histogram.
        relative: The bandwidth is in units of the bin widths, not of ``x``.

    Returns:
        The relative bias of every bin; 0 where the hard bin is empty.

    Raises:
        InputError: As :func:`soft_histogram`.

    Example:
        >>> import jax.numpy as jnp
        >>> x, edges = jnp.array([0.25, 0.5, 0.75, 1.5]), jnp.array([0.0, 1.0, 2.0])
        >>> soft_hard_bias(x, None, edges, bandwidth=0.5).round(3).tolist()
        [-0.125, 0.375]
    """
    x, edges = jax.lax.stop_gradient((x, edges))
    hard = hard_histogram(x, weights, edges).contents
    if relative:
        x = bin_coordinate(x, edges)
        edges = jnp.arange(len(edges), dtype=x.dtype)
    soft = soft_histogram(x, weights, edges, bandwidth=jax.lax.stop_gradient(bandwidth)).contents
    return jax.lax.stop_gradient(safe_divide(soft - hard, hard))
