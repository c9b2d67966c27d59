"""Padded particle clouds: which particles are real, and what stands beside them."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from difana._errors import InputError
from difana.data import Inputs


def cloud_of(
    given: Float[Array, "events particles channels"] | Inputs,
    mask: Bool[Array, "events particles"] | None,
    *,
    channels: int,
    features: int = 0,
) -> tuple[Array, Array, Array | None]:
    """Return particles with zeros in the padding, the mask, and the features if there are any.

    Without a mask, a particle of zeros is padding.

    Raises:
        InputError: If the shapes do not fit the network or each other, or it would ignore features.
    """
    if isinstance(given, Inputs):
        particles, mask, beside = given.particles, given.mask, given.features
    else:
        particles, beside = given, None
    have = 0 if beside is None else beside.shape[-1]
    if have != features:
        raise InputError(
            f"the network takes {features} features beside the particles, the events have {have}: "
            f"make it with features={have}, or give it net(inputs.particles, inputs.mask)"
        )
    if particles.ndim != 3 or particles.shape[-1] != channels:
        raise InputError(
            f"particles must be [events, particles, {channels}], got {particles.shape}"
        )
    if mask is None:
        mask = jnp.any(particles != 0, axis=-1)
    if mask.shape != particles.shape[:2]:
        raise InputError(f"mask {mask.shape} does not fit particles {particles.shape}")
    return jnp.where(mask[..., None], particles, 0), mask, beside if features else None
