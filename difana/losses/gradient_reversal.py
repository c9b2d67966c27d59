"""Gradient reversal: the identity that turns descent into ascent."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._typing import PyTree


def reverse_gradient(x: PyTree, *, scale: Float[Array, ""] | float = 1.0) -> PyTree:
    r"""Return ``x``; its gradient is multiplied by ``-scale``.

    .. math:: R(x) = x, \qquad \frac{\partial R}{\partial x} = -\lambda

    One descent step on ``loss(reverse_gradient(x))`` then ascends in ``x``: players of a minimax
    game share one optimizer. Differentiated by a custom reverse-mode rule; no gradient to
    ``scale``.

    Args:
        x: Any PyTree of floating-point arrays.
        scale: Factor :math:`\lambda`, may be traced (annealed).

    Returns:
        ``x`` unchanged.

    References:
        Y. Ganin, V. Lempitsky, arXiv:1409.7495, equation 10.

    Example:
        >>> import jax
        >>> jax.value_and_grad(lambda x: reverse_gradient(x, scale=0.5) ** 2)(3.0)
        (Array(9., dtype=...), Array(-3., dtype=...))
    """
    return jax.tree.map(lambda leaf: _reverse(leaf, scale), x)


@partial(jax.custom_vjp, nondiff_argnums=())
def _reverse(x: Array, scale: Array | float) -> Array:
    return x


def _forward(x: Array, scale: Array | float) -> tuple[Array, Array | float]:
    return x, scale


def _backward(scale: Array | float, gradient: Array) -> tuple[Array, None]:
    return -jnp.asarray(scale, gradient.dtype) * gradient, None


_reverse.defvjp(_forward, _backward)
