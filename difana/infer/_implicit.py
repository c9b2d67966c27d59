"""Numbers found by iteration, with the derivatives of the equation they solve: of every order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from difana._status import Status, flag

_STEPS = 60  # of the search for a root


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


def rising_root(
    function: Callable[[Array, Any], tuple[Array, Array, Any]],
    start: Float[Array, ""],
    carry: Any,
) -> tuple[Float[Array, ""], Any, Int[Array, ""]]:
    """Find the root of a rising function of mu > 0 by Newton steps kept inside a bracket.

    ``function(mu, carry)`` returns the value, the slope and the next carry (warm starts).
    """
    eps = jnp.finfo(start.dtype).eps

    def body(state: tuple) -> tuple:
        mu, low, high, carry, steps, _ = state
        value, slope, carry = function(mu, carry)
        low = jnp.where(value < 0, mu, low)
        high = jnp.where(value >= 0, mu, high)
        newton = mu - value / jnp.where(slope > 0, slope, jnp.nan)
        middle = jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2 * mu)
        limit = jnp.where(jnp.isfinite(high), high, 10 * mu)
        inside = (newton >= low) & (newton <= limit)  # also false for NaN
        new = jnp.where(inside, newton, middle)
        # Newton doubles the digits: after a step of sqrt(eps) it has arrived
        arrived = inside & (jnp.abs(new - mu) <= 0.1 * jnp.sqrt(eps) * jnp.abs(mu))
        done = arrived | (jnp.abs(new - mu) <= 64 * eps * jnp.abs(mu)) | (jnp.abs(value) <= 8 * eps)
        return new, low, high, carry, steps + 1, done

    start = jnp.where(jnp.isfinite(start) & (start > 0), start, 1.0)
    state = (
        start,
        jnp.zeros_like(start),
        jnp.full_like(start, jnp.inf),
        carry,
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    state = jax.lax.while_loop(lambda s: ~s[5] & (s[4] < _STEPS) & (s[0] < 1e12), body, state)
    lost = flag(~state[5], Status.NOT_BRACKETED)
    return state[0], state[3], lost | flag(state[0] >= 1e12, Status.UNBOUNDED)
