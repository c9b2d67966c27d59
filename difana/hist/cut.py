"""A cut that has a derivative."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana.hist._checks import check_positive


def soft_cut(
    x: Float[Array, "..."],
    threshold: Float[Array, ""] | float,
    *,
    slope: Float[Array, ""] | float,
    keep: Literal["above", "below"] = "above",
) -> Float[Array, "..."]:
    r"""Return weights between 0 and 1 that stand for a cut, :math:`\sigma(s (x - t))`.

    Multiply the event weights by them. Differentiated by JAX, to any order, also in the
    threshold.

    Args:
        x: Observable of the events, any shape.
        threshold: Value ``t`` of the cut, in units of ``x``; may be traced.
        slope: Steepness ``s > 0``, in inverse units of ``x``; the hard cut is its limit.
        keep: Which side is kept, ``"above"`` or ``"below"``.

    Returns:
        The weights, of the shape of ``x``.

    Raises:
        InputError: For an unknown side, or (outside jit) a slope that is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> soft_cut(jnp.array([0.0, 1.0, 2.0]), 1.0, slope=10.0).round(3).tolist()
        [0.0, 0.5, 1.0]

        A trainable cut is a number of the trainable; its gradient counts the events at the cut:

        >>> import jax
        >>> x = jnp.array([0.0, 0.9, 1.1, 2.0])
        >>> yields = lambda t: jnp.sum(soft_cut(x, t, slope=10.0))
        >>> round(float(jax.grad(yields)(1.0)), 2)
        -3.93
    """
    if keep not in ("above", "below"):
        raise InputError(f"keep is '{keep}'; choose 'above' or 'below'")
    slope = check_positive(slope, name="slope", zero=False)
    distance = slope * (jnp.asarray(x) - threshold)
    return jax.nn.sigmoid(distance if keep == "above" else -distance)
