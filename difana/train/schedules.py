"""Schedules of the progress of a training, for annealing inside the loss."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import ConfigError

Schedule = Callable[[Float[Array, ""]], Float[Array, ""]]
"""Maps the progress (0 at the first step, 1 at the last) to a number; traceable."""


def constant(value: float) -> Schedule:
    """Return the schedule that stays at ``value``.

    Example:
        >>> float(constant(0.5)(0.7))
        0.5
    """
    return lambda progress: jnp.asarray(value)


def linear(start: float, stop: float) -> Schedule:
    """Return ``start + (stop - start) * progress``.

    Example:
        >>> linear(1.0, 3.0)(0.5)
        2.0
    """
    return lambda progress: start + (stop - start) * progress


def geometric(start: float, stop: float) -> Schedule:
    """Return ``start * (stop / start) ** progress``: equal factors in equal times.

    The usual way to anneal a bandwidth or a temperature.

    Args:
        start: Value at progress 0; not zero, of the sign of ``stop``.
        stop: Value at progress 1.

    Returns:
        The schedule.

    Raises:
        ConfigError: If start and stop are not both positive or both negative.

    Example:
        >>> bandwidth = geometric(0.4, 0.1)
        >>> [round(float(bandwidth(p)), 3) for p in (0.0, 0.5, 1.0)]
        [0.4, 0.2, 0.1]
    """
    if not start * stop > 0:
        raise ConfigError(
            f"geometric schedule from {start} to {stop}: both must be positive or both negative; "
            "use a linear one to reach zero."
        )
    return lambda progress: start * (stop / start) ** progress


def cosine(start: float, stop: float) -> Schedule:
    """Return ``stop + (start - stop) * (1 + cos(pi * progress)) / 2``: flat at both ends.

    Example:
        >>> round(float(cosine(1.0, 0.0)(0.5)), 6)
        0.5
    """
    return lambda progress: stop + (start - stop) * (1 + jnp.cos(jnp.pi * progress)) / 2


def window(schedule: Schedule, *, begin: float = 0.0, end: float = 1.0) -> Schedule:
    """Run a schedule between ``begin`` and ``end`` and hold its end values outside.

    Args:
        schedule: The schedule.
        begin: Progress at which it starts, in [0, 1).
        end: Progress at which it has arrived, in (begin, 1].

    Returns:
        The stretched schedule.

    Raises:
        ConfigError: If not ``0 <= begin < end <= 1``.

    Example:
        >>> late = window(linear(0.0, 1.0), begin=0.5)
        >>> [float(late(p)) for p in (0.2, 0.5, 0.75, 1.0)]
        [0.0, 0.0, 0.5, 1.0]
    """
    if not 0 <= begin < end <= 1:
        raise ConfigError(f"window from {begin} to {end}: needs 0 <= begin < end <= 1.")
    return lambda progress: schedule(jnp.clip((progress - begin) / (end - begin), 0.0, 1.0))
