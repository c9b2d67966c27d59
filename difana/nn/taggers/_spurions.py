"""Reference vectors that break the Lorentz symmetry where a detector does: beams and time."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Vector = tuple[float, float, float, float]

BEAMS: tuple[Vector, ...] = ((2**0.5, 0.0, 0.0, 1.0), (2**0.5, 0.0, 0.0, -1.0))
"""Two massive particles along the beams."""

LIGHTLIKE_BEAMS: tuple[Vector, ...] = ((1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, -1.0))
"""Two massless ones."""

TIME: Vector = (1.0, 0.0, 0.0, 0.0)
"""The rest frame of the detector."""


def with_beams(
    p: Float[Array, "events particles 4"],
    mask: Bool[Array, "events particles"],
    beams: tuple[Vector, ...] | Float[Array, "beams 4"],
) -> tuple[Array, Array, Array]:
    """Put beams in front of the particles.

    Returns:
        Vectors, one-hot labels (particle, and beam where there are some) and mask.

    Example:
        >>> x, label, mask = with_beams(jnp.ones((1, 1, 4)), jnp.ones((1, 1), bool), BEAMS)
        >>> x.shape, label[0].tolist(), mask.tolist()
        ((1, 3, 4), [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [[True, True, True]])
    """
    events, particles = mask.shape
    count = len(beams)
    if not count:
        return p, jnp.ones((events, particles, 1), p.dtype), mask
    front = jnp.broadcast_to(jnp.asarray(beams, p.dtype), (events, count, 4))
    label = jnp.repeat(jnp.eye(2, dtype=p.dtype)[::-1], jnp.array([count, particles]), axis=0,
                       total_repeat_length=count + particles)  # fmt: skip
    return (
        jnp.concatenate([front, p], axis=1),
        jnp.broadcast_to(label, (events, *label.shape)),
        jnp.concatenate([jnp.ones((events, count), bool), mask], axis=1),
    )
