"""Numbers found by iteration, with the derivatives of the equation they solve: of every order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def known(function: Callable, value: Array, moving: tuple, constants: tuple) -> Array:
    """Return a value at hand, with all derivatives of ``function(*moving, *constants)``.

    Nothing of the function is compiled where no derivative is asked for.
    """
    return value


@known.defjvp
def _known_jvp(function: Callable, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value, moving, constants = primals
    change = jax.jvp(lambda *args: function(*args, *constants), moving, tangents[1])[1]
    return known(function, value, moving, constants), change


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def roots(
    function: Callable, found: Array, slopes: Array, moving: tuple, constants: tuple
) -> Array:
    r"""Return roots that were found, with the derivatives of the equations they solve.

    ``function(roots, *moving, *constants)`` returns one height a root, each of which depends on
    its own root alone and vanishes there, whatever moves:
    :math:`dx = -(\partial_\varphi h / \partial_x h)\,d\varphi`. The rule applies to itself, so
    that second derivatives hold, too.

    Args:
        function: The heights.
        found: The roots.
        slopes: Slopes of the heights in their roots there; a root whose slope is infinite stays
            where it is.
        moving: What may be differentiated.
        constants: The rest.
    """
    return found


@roots.defjvp
def _roots_jvp(function: Callable, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    found, slopes, moving, constants = primals
    there = roots(function, found, slopes, moving, constants)
    change = jax.jvp(lambda *args: function(there, *args, *constants), moving, tangents[2])[1]
    slopes = known(partial(_slopes, function), slopes, (there, *moving), constants)
    usable = jnp.isfinite(slopes) & (slopes != 0)
    change = jnp.where(usable, change, 0.0) / jnp.where(usable, slopes, 1.0)
    return there, -change


def _slopes(function: Callable, x: Array, *rest: tuple) -> Array:
    return jax.jvp(lambda x: function(x, *rest), (x,), (jnp.ones_like(x),))[1]
