"""A transformer that also says where tracks come from and which share a vertex (GN2-like)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from difana._numerics import third_party_promotion
from difana.data import Inputs
from difana.nn.taggers._base import Coordinates
from difana.nn.taggers._layers import Perceptron, linear
from difana.nn.taggers.kinematics import four_momenta, particle_features
from difana.nn.taggers.transformer import Transformer


class JetTasks(NamedTuple):
    """Logits of a jet, of its particles and of their pairs.

    Attributes:
        jet: Class of the jet, ``[events, outputs]``.
        origin: Where a particle comes from, ``[events, particles, origins]``.
        vertex: Whether two particles share a vertex, ``[events, particles, particles]``.
    """

    jet: Float[Array, "events outputs"]
    origin: Float[Array, "events particles origins"]
    vertex: Float[Array, "events particles particles"]


class VertexTagger(Transformer):
    r"""A transformer with attention pooling and two auxiliary tasks, in the manner of GN2.

    Called, it returns the logits of the jet; `tasks` returns those of all three tasks, for a loss
    such as :math:`L_{jet} + 1.5\, L_{vertex} + 0.5\, L_{origin}`.

    Args:
        outputs: Number of classes of jets.
        origins: Number of origins of a track.
        width: Width of the blocks.
        heads: Number of attention heads.
        blocks: Number of blocks.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels: impact parameters and so on.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Example:
        >>> net = VertexTagger(3, width=16, heads=2, blocks=1, extras=2, key=jax.random.key(0))
        >>> tracks = jax.ShapeDtypeStruct((5, 20, 6), jnp.float32)
        >>> jax.eval_shape(net, tracks).shape, jax.eval_shape(net.tasks, tracks).vertex.shape
        ((5, 3), (5, 20, 20))

    References:
        ATLAS, ATL-PHYS-PUB-2022-027 (GN1); ATLAS, arXiv:2505.19689 (GN2).
    """

    def __init__(
        self,
        outputs: int = 3,
        *,
        origins: int = 6,
        width: int = 128,
        heads: int = 8,
        blocks: int = 4,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        keys = jax.random.split(key, 2)
        super().__init__(
            outputs,
            width=width,
            heads=heads,
            blocks=blocks,
            coordinates=coordinates,
            extras=extras,
            features=features,
            dtype=dtype,
            key=keys[0],
        )
        rngs = nnx.Rngs(params=keys[1])
        self.importance = linear(width, 1, rngs=rngs, dtype=dtype)
        self.head = Perceptron([width + features, width, outputs], rngs=rngs, dtype=dtype)
        self.origin = Perceptron([2 * width, width, origins], rngs=rngs, dtype=dtype)
        self.pair_end = linear(width, width, rngs=rngs, dtype=dtype)
        self.pair_jet = linear(width, width, rngs=rngs, dtype=dtype)
        self.pair_out = linear(width, 1, rngs=rngs, dtype=dtype)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the mean over the particles, weighted by their importance."""
        return self._pooled(self._tracks(p, extra, mask), mask)

    def tasks(
        self,
        particles: Float[Array, "events particles channels"] | Inputs,
        mask: Bool[Array, "events particles"] | None = None,
    ) -> JetTasks:
        """Return the logits of all tasks.

        Args:
            particles: As for a call.
            mask: As for a call.
        """
        if isinstance(particles, Inputs):
            x, mask = particles.particles, particles.mask
        else:
            x = particles
            mask = jnp.any(x != 0, axis=-1) if mask is None else mask
        jet = self(particles, None if isinstance(particles, Inputs) else mask)
        x = jnp.where(mask[..., None], x, 0).astype(self.dtype)
        with third_party_promotion():
            p = four_momenta(x[..., :4]) if self.coordinates == "cylindrical" else x[..., :4]
            tracks = self._tracks(p, x[..., 4:], mask)
            pooled = self._pooled(tracks, mask)
            beside = jnp.broadcast_to(pooled[:, None], tracks.shape)
            origin = self.origin(jnp.concatenate([tracks, beside], axis=-1))
            ends = self.pair_end(tracks)
            pairs = ends[:, :, None] + ends[:, None] + self.pair_jet(pooled)[:, None, None]
            vertex = self.pair_out(jax.nn.relu(pairs))[..., 0]
        return JetTasks(jet, origin, vertex)

    def _tracks(self, p: Array, extra: Array, mask: Array) -> Array:
        x = jnp.concatenate([particle_features(p, mask), extra], axis=-1)
        return self.transform(x, mask)

    def _pooled(self, tracks: Array, mask: Array) -> Array:
        score = jnp.where(mask, self.importance(tracks)[..., 0], -1e9)
        share = jnp.where(mask, jax.nn.softmax(score, axis=1), 0)
        return jnp.einsum("ep,epc->ec", share, tracks)
