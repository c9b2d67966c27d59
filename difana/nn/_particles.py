"""Padded particle clouds: which particles are real."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from difana._errors import InputError


def real_particles(
    particles: Float[Array, "events particles channels"],
    mask: Bool[Array, "events particles"] | None,
    *,
    channels: int,
) -> Bool[Array, "events particles"]:
    """Return the mask of real particles; without one, a particle of zeros is padding.

    Raises:
        InputError: If the shapes do not fit the network or each other.
    """
    if particles.ndim != 3 or particles.shape[-1] != channels:
        raise InputError(
            f"particles must be [events, particles, {channels}], got {particles.shape}"
        )
    if mask is None:
        mask = jnp.any(particles != 0, axis=-1)
    if mask.shape != particles.shape[:2]:
        raise InputError(f"mask {mask.shape} does not fit particles {particles.shape}")
    return mask
