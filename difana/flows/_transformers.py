"""What moves a column, given the parameters that a conditioner computes for it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from difana.flows._spline import Ends, spline_forward, spline_inverse, spline_size

Kind = Literal["spline", "affine"]
_LARGEST = 5.0  # log of the largest scale of an affine layer


@dataclasses.dataclass(frozen=True)
class Transformer:
    """An invertible function of a column with parameters of its own.

    Attributes:
        kind: ``"spline"`` or ``"affine"``.
        bins: Bins of a spline.
        bound: Its range is ``[-bound, bound]``.
        ends: Slopes of a spline at the ends of its range.
    """

    kind: Kind = "spline"
    bins: int = 8
    bound: float = 6.0
    ends: Ends = "one"

    @property
    def size(self) -> int:
        """Number of parameters a column; all zero: the identity."""
        return 2 if self.kind == "affine" else spline_size(self.bins, self.ends)

    def forward(
        self, params: Float[Array, "*rows size"], x: Array, periodic: Array | None
    ) -> tuple[Array, Array]:
        """Return the columns moved, and the log slope of each."""
        if self.kind == "affine":
            log_scale = self._log_scale(params)
            return x * jnp.exp(log_scale) + params[..., 1], log_scale
        return spline_forward(params, x, **self._options, periodic=periodic)

    def inverse(
        self, params: Float[Array, "*rows size"], y: Array, periodic: Array | None
    ) -> tuple[Array, Array]:
        """Return the columns moved back, and the log slope of the way forward."""
        if self.kind == "affine":
            log_scale = self._log_scale(params)
            return (y - params[..., 1]) * jnp.exp(-log_scale), log_scale
        return spline_inverse(params, y, **self._options, periodic=periodic)

    @property
    def _options(self) -> dict:
        return {"bins": self.bins, "bound": self.bound, "free": self.ends == "free"}

    def _log_scale(self, params: Array) -> Array:
        return _LARGEST * jnp.tanh(params[..., 0] / _LARGEST)
