"""How far soft yields are from hard ones."""

from __future__ import annotations

from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide


def relative_bias(
    soft: Float[Array, "*samples bins"], hard: Float[Array, "*samples bins"]
) -> Float[Array, "*samples bins"]:
    r"""Return :math:`(s - h) / h` of soft and hard yields, and 0 where the hard yield is zero.

    Args:
        soft: Yields of the soft histogram used in training.
        hard: Yields of the ordinary histogram of the same events.

    Returns:
        The relative bias, bin by bin.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> import jax.numpy as jnp
        >>> relative_bias(jnp.array([11.0, 1.0]), jnp.array([10.0, 0.0])).tolist()
        [0.1, 0.0]
    """
    if soft.shape != hard.shape:
        raise InputError(f"soft yields {soft.shape} and hard yields {hard.shape} differ in shape")
    return safe_divide(soft - hard, hard)
