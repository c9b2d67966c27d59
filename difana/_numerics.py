"""Guarded numerics shared by all rooms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def enable_x64() -> None:
    """Switch JAX to 64-bit numbers: the statistical part needs them.

    Called by the command line, never at import. Call it before the first array is made.

    Example:
        >>> import difana
        >>> difana.enable_x64()
    """
    jax.config.update("jax_enable_x64", True)


def safe_divide(
    numerator: Float[Array, "..."], denominator: Float[Array, "..."], fill: float = 0.0
) -> Float[Array, "..."]:
    """Return ``numerator / denominator``, and ``fill`` where the denominator is zero.

    Values and gradients are finite everywhere (double ``where``).

    Example:
        >>> import jax.numpy as jnp
        >>> safe_divide(jnp.array([1.0, 1.0]), jnp.array([2.0, 0.0])).tolist()
        [0.5, 0.0]
    """
    zero = denominator == 0
    return jnp.where(zero, fill, numerator / jnp.where(zero, 1.0, denominator))


def safe_sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the square root for ``x > 0`` and 0 with zero gradient elsewhere.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> float(jax.grad(safe_sqrt)(jnp.array(0.0)))
        0.0
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
