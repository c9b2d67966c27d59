"""Binnings: bin edges that stay fixed, and edges that a gradient may move."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import wider_dtype
from difana.hist._checks import check_edges, concrete


class FixedEdges(eqx.Module):
    """Edges without a gradient.

    Attributes:
        positions: The edges ``[bins + 1]``.

    Example:
        >>> import jax.numpy as jnp
        >>> FixedEdges(jnp.array([0.0, 0.5, 1.0])).edges.tolist()
        [0.0, 0.5, 1.0]
    """

    positions: Float[Array, " edges"]

    def __init__(self, edges: Float[Array, " edges"]) -> None:
        self.positions = check_edges(edges)

    @property
    def edges(self) -> Float[Array, " edges"]:
        """The edges; their derivative is zero."""
        return jax.lax.stop_gradient(self.positions)


class TrainableEdges(eqx.Module):
    r"""Edges that increase whatever their parameters are.

    .. math:: e_0 = a, \quad e_{j+1} = e_j + m + s\,\mathrm{softplus}(u_j)

    The scale ``s`` (the mean width at the start) makes the ``u`` numbers of order one, so that one
    learning rate fits all observables.

    Attributes:
        first: The first edge ``a``, in units of the observable.
        raw: Free parameters ``u`` of the widths ``[bins]``.
        scale: Scale ``s`` of the widths (static).
        min_width: Smallest width ``m`` (static).

    Example:
        >>> import jax.numpy as jnp
        >>> binning = TrainableEdges.from_edges(jnp.array([0.0, 0.5, 2.0]), min_width=0.01)
        >>> binning.edges.round(5).tolist()
        [0.0, 0.5, 2.0]
    """

    first: Float[Array, ""]
    raw: Float[Array, " bins"]
    scale: float = eqx.field(static=True)
    min_width: float = eqx.field(static=True)

    @classmethod
    def from_edges(
        cls, edges: Float[Array, " edges"], *, min_width: float | None = None
    ) -> TrainableEdges:
        """Return trainable edges that start at ``edges``.

        Args:
            edges: Increasing finite edges ``[bins + 1]``.
            min_width: Smallest width a bin may reach, in units of the observable; by default
                1/1000 of the narrowest bin.

        Raises:
            InputError: If a bin is not wider than ``min_width``, an edge is infinite, or the type
                of the edges cannot resolve ``min_width``.
        """
        edges = check_edges(edges, keep=True)
        if not concrete(edges):
            raise InputError("TrainableEdges.from_edges needs numbers: call it outside jit")
        values = np.asarray(edges, dtype=np.float64)
        if not np.all(np.isfinite(values)):
            raise InputError(f"edges {values.tolist()} are not finite; trainable edges must be")
        widths = np.diff(values)
        floor = float(widths.min()) * 1e-3 if min_width is None else float(min_width)
        if floor < 0 or np.any(widths <= floor):
            raise InputError(
                f"bin {int(widths.argmin())} is {widths.min():g} wide, min_width is {floor:g};"
                " choose a positive min_width below the narrowest bin"
            )
        dtype = wider_dtype(jnp.asarray(edges).dtype, jnp.float32)
        step = float(jnp.finfo(dtype).eps) * float(np.abs(values).max())
        if min_width is None:
            floor = max(floor, 4 * step)
        if floor < 2 * step or np.any(widths <= floor):
            raise InputError(
                f"{dtype.name} resolves {step:g} at {np.abs(values).max():g}: bins of"
                f" {widths.min():g} with min_width {floor:g} could collapse; call"
                " difana.enable_x64() first, or subtract a constant from observable and edges"
            )
        scale = float(widths.mean())
        excess = (widths - floor) / scale
        # inverse of softplus, stable for wide bins
        raw = excess + np.log(-np.expm1(-excess))
        return cls(jnp.asarray(values[0], dtype), jnp.asarray(raw, dtype), scale, floor)

    @property
    def edges(self) -> Float[Array, " edges"]:
        """The edges ``[bins + 1]``."""
        widths = self.min_width + self.scale * jax.nn.softplus(self.raw)
        return jnp.concatenate([self.first[None], self.first + jnp.cumsum(widths)])
