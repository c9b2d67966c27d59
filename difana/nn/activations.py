"""Activation functions by name, so that a module's structure is a plain string."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from difana._errors import ConfigError, nearest

_BY_NAME: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """Return the activation function called ``name``.

    Args:
        name: One of elu, gelu, leaky_relu, relu, silu, softplus, tanh.

    Returns:
        The elementwise function.

    Raises:
        ConfigError: If there is no such activation.

    Example:
        >>> activation("relu")(-1.0).item()
        0.0
    """
    if name not in _BY_NAME:
        known = ", ".join(sorted(_BY_NAME))
        raise ConfigError(f"no activation '{name}', known: {known}.{nearest(name, _BY_NAME)}")
    return _BY_NAME[name]
