"""What a network is given: the feature table, or features, particles and mask together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float


class Inputs(eqx.Module):
    """Features and padded particles of the same events, all behind one event axis.

    ``Events.inputs`` makes it; a transformation gets one and returns one, a network gets one.

    Attributes:
        features: One row an event, ``[events, features]``; may have no column.
        particles: Padded particles, ``[events, particles, channels]``; padding holds zeros.
        mask: True where a particle is real, ``[events, particles]``.

    Example:
        >>> inputs = Inputs(jnp.ones((5, 2)), jnp.ones((5, 3, 4)), jnp.ones((5, 3), bool))
        >>> len(inputs), inputs[:2].particles.shape
        (5, (2, 3, 4))
    """

    features: Float[Array, "*events features"]
    particles: Float[Array, "*events particles channels"]
    mask: Bool[Array, "*events particles"]

    def __len__(self) -> int:
        """Return the number of events."""
        return self.features.shape[0]

    def __getitem__(self, rows: Array | slice) -> Inputs:
        """Return some events."""
        return jax.tree.map(lambda leaf: leaf[rows], self)

    def cleaned(self) -> Inputs:
        """Return the same with zeros in the padding, whatever stood there, NaN included."""
        particles = jnp.where(self.mask[..., None], self.particles, 0)
        return Inputs(self.features, particles, self.mask)


Given = Float[Array, "events features"] | Inputs
"""What a network is given: ``Events.inputs``."""


def features_of(inputs: Given) -> Float[Array, "*events features"]:
    """Return the feature table of either kind of inputs.

    Example:
        >>> features_of(jnp.ones((5, 2))).shape
        (5, 2)
    """
    return inputs.features if isinstance(inputs, Inputs) else inputs


def with_columns(inputs: Given, values: Float[ArrayLike, "*events columns"]) -> Any:
    """Return the inputs with further columns behind the features, e.g. nuisances.

    Example:
        >>> with_columns(jnp.ones((5, 2)), jnp.zeros((5, 1))).shape
        (5, 3)
    """
    features = features_of(inputs)
    wider = jnp.concatenate([features, jnp.asarray(values, features.dtype)], axis=-1)
    if isinstance(inputs, Inputs):
        return Inputs(wider, inputs.particles, inputs.mask)
    return wider


def joined(parts: Sequence[Given]) -> Any:
    """Return the events of several inputs, one after the other.

    Example:
        >>> joined([jnp.ones((5, 2)), jnp.ones((3, 2))]).shape
        (8, 2)
    """
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def moved(function: Callable[[Any, Array], Any], inputs: Given, alpha: Float[ArrayLike, ""]) -> Any:
    """Return ``function(inputs, alpha)``; of particles, what it makes of the padding is dropped.

    Example:
        >>> inputs = Inputs(jnp.ones((1, 0)), jnp.ones((1, 2, 1)), jnp.array([[True, False]]))
        >>> def louder(x, alpha):
        ...     return Inputs(x.features, x.particles + alpha, x.mask)
        >>> moved(louder, inputs, 1.0).particles.ravel().tolist()
        [2.0, 0.0]
    """
    found = function(inputs, jnp.asarray(alpha, features_of(inputs).dtype))
    return found.cleaned() if isinstance(found, Inputs) else found
