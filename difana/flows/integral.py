"""What an integrator returns."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Float


class Points(eqx.Module):
    """Weighted points of an integral.

    Attributes:
        x: Where the integrand was evaluated, ``[channels, points, dims]``.
        weights: Integrand times channel weight over density; their means add up to the integral.
    """

    x: Float[Array, "channels points dims"]
    weights: Float[Array, "channels points"]


class Integral(eqx.Module):
    r"""An integral and its statistical error.

    Attributes:
        value: The integral.
        error: Its standard deviation.
        relative_deviation: Of one point, points shared out among channels at best:
            :math:`\sum_i \sigma_i / |I|`; the error is this times the value over the root of the
            number of points.
        shares: Part of the integral of ``|f|`` of each channel, ``[channels]``.
        efficiency: Mean over largest modulus of the weights: of unweighting.
    """

    value: Float[Array, ""]
    error: Float[Array, ""]
    relative_deviation: Float[Array, ""]
    shares: Float[Array, " channels"]
    efficiency: Float[Array, ""]
