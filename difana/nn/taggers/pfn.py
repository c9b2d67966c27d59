"""Particle flow network and its infrared and collinear safe relative."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import Perceptron
from difana.nn.taggers.kinematics import SMALL, centred

_WIDTH = 0.3  # of a jet, in rapidity and azimuth


class PFN(Tagger):
    r"""Particle flow network: a sum over the particles between two perceptrons.

    .. math:: F\left(\sum_i \Phi(\ln z_i, y_i, \phi_i, \ldots)\right), \qquad
              z_i = p_{T,i} / \textstyle\sum_j p_{T,j}

    Args:
        outputs: Number of classes.
        phi: Widths of the perceptron of a particle, the last one that of the sum.
        hidden: Widths of the perceptron of the jet.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Example:
        >>> net = PFN(2, key=jax.random.key(0))
        >>> p = jnp.array([[[50.0, 30.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
        >>> net(p).shape
        (1, 2)

    References:
        Komiske, Metodiev, Thaler, arXiv:1810.05165.
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        phi: Sequence[int] = (100, 100, 256),
        hidden: Sequence[int] = (100, 100, 100),
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        rngs = nnx.Rngs(params=key)
        self.phi = Perceptron([self.inputs(), *phi], rngs=rngs, dtype=dtype)
        self.head = Perceptron([phi[-1] + features, *hidden, outputs], rngs=rngs, dtype=dtype)

    def inputs(self) -> int:
        """Return the number of inputs of the perceptron of a particle."""
        return 3 + self.extras

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the sum of the latent vectors."""
        share, y, phi = centred(p, mask)
        # of order one, whatever the jet
        own = [(jnp.log(jnp.maximum(share, SMALL)) + 4) / 2, y / _WIDTH, phi / _WIDTH]
        x = jnp.concatenate([jnp.stack(own, axis=-1), extra], axis=-1)
        return jnp.sum(jnp.where(mask[..., None], jax.nn.relu(self.phi(x)), 0), axis=1)

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)


class EFN(PFN):
    r"""Energy flow network: the energy enters linearly, so that soft or collinear splittings do not.

    .. math:: F\left(\sum_i z_i\, \Phi(y_i, \phi_i)\right)

    Further channels are no inputs: identities and displacements are not safe.

    Args:
        outputs: Number of classes.
        **options: As for `PFN`.

    Example:
        >>> net = EFN(2, key=jax.random.key(0))
        >>> one = jnp.array([[[50.0, 40.0, 30.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
        >>> two = jnp.array([[[20.0, 16.0, 12.0, 0.0], [30.0, 24.0, 18.0, 0.0]]])
        >>> bool(jnp.allclose(net(one), net(two), atol=1e-6))
        True

    References:
        Komiske, Metodiev, Thaler, arXiv:1810.05165 eq. (1.3).
    """  # noqa: E501

    def inputs(self) -> int:
        """Return the number of inputs of the perceptron of a particle."""
        return 2

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the sum of the latent vectors, weighted with shares of the energy."""
        share, y, phi = centred(p, mask)
        latent = jax.nn.relu(self.phi(jnp.stack([y, phi], axis=-1) / _WIDTH))
        return jnp.sum(jnp.where(mask[..., None], share[..., None] * latent, 0), axis=1)
