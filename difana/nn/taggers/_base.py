"""What all taggers share: the door, the checks, embedding and head."""

from __future__ import annotations

import abc
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from difana._errors import ConfigError, InputError
from difana._numerics import third_party_promotion, traced
from difana.data import Inputs
from difana.nn._particles import cloud_of
from difana.nn.taggers.kinematics import four_momenta

Coordinates = Literal["cartesian", "cylindrical"]
_TACHYON = 1e-3  # of E^2: rounding of float32 files makes m^2 a bit negative


class Tagger(nnx.Module):
    """A network from the constituents of a jet to logits: an embedding of the jet, then a head.

    The first four channels of a particle are its momentum, ``(E, px, py, pz)`` (cartesian) or
    ``(pT, eta, phi, mass)`` (cylindrical), in GeV; all others are scalars. Padding never reaches
    the result.

    Attributes:
        coordinates: What the first four channels are.
        extras: Number of further channels.
        features: Number of features of the event, which the head sees beside the embedding.
        dtype: Type of weights and computation.
    """

    def __init__(
        self, *, coordinates: Coordinates, extras: int, features: int, dtype: jax.typing.DTypeLike
    ) -> None:
        if coordinates not in ("cartesian", "cylindrical"):
            raise ConfigError(
                f"coordinates = '{coordinates}': must be 'cartesian' or 'cylindrical'."
            )
        if extras < 0 or features < 0:
            raise ConfigError(f"extras = {extras}, features = {features}: must not be negative.")
        self.coordinates: Coordinates = coordinates
        self.extras = extras
        self.features = features
        self.dtype = jnp.dtype(dtype)

    @abc.abstractmethod
    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return a vector for each jet, ``[events, width]``.

        Args:
            p: Momenta ``(E, px, py, pz)``, zeros in the padding.
            extra: Further channels.
            mask: True where a particle is real.
        """

    @abc.abstractmethod
    def classify(self, embedding: Array) -> Array:
        """Return the logits of an embedding, with the features of the event behind it."""

    def __call__(
        self,
        particles: Float[Array, "events particles channels"] | Inputs,
        mask: Bool[Array, "events particles"] | None = None,
    ) -> Float[Array, "events outputs"]:
        """Return the logits.

        Args:
            particles: ``Events.inputs``, or padded particles ``[events, particles, channels]``.
            mask: True where a particle is real. Without it, a particle whose channels are all
                zero is padding.

        Raises:
            InputError: If the shapes do not fit, or (outside jit) a particle is not finite or has
                less energy than momentum: channels in a wrong order.
        """
        x, mask, beside = cloud_of(
            particles, mask, channels=4 + self.extras, features=self.features
        )
        checked_momenta(x, mask, self.coordinates)
        x = x.astype(self.dtype)
        with third_party_promotion():
            p = four_momenta(x[..., :4]) if self.coordinates == "cylindrical" else x[..., :4]
            found = self.embed(p, x[..., 4:], mask)
            if beside is not None:
                found = jnp.concatenate([found, beside.astype(found.dtype)], axis=-1)
            return self.classify(found)


def checked_momenta(x: Array, mask: Array, coordinates: str) -> None:
    """Refuse, outside of jit, momenta that cannot be some.

    Example:
        >>> x = jnp.array([[[1.0, 2.0, 3.0, 4.0]]])
        >>> checked_momenta(x, jnp.ones((1, 1), bool), "cartesian")
        Traceback (most recent call last):
        difana._errors.InputError: a particle has E = 1 and |p| = 5.38516: ...
    """
    if traced(x, mask):
        return
    real, there = np.asarray(x, float), np.asarray(mask)
    if not np.isfinite(real).all():
        event = int(np.argwhere(~np.isfinite(real))[0][0])
        raise InputError(f"event {event} has a particle with a channel that is not finite")
    if coordinates == "cylindrical":
        if (real[..., 0][there] < 0).any() or (real[..., 3][there] < 0).any():
            raise InputError(
                "a particle has a negative pT or mass: the order of the channels must be pT, eta, "
                "phi, mass"
            )
        return
    energy, momentum = real[..., 0], np.linalg.norm(real[..., 1:4], axis=-1)
    bad = there & (energy**2 - momentum**2 < -_TACHYON * np.maximum(energy**2, 1e-6))
    bad |= there & (energy < 0)
    if bad.any():
        where = tuple(np.argwhere(bad)[0])
        raise InputError(
            f"a particle has E = {energy[where]:g} and |p| = {momentum[where]:g}: the order of the "
            "channels must be E, px, py, pz"
        )
