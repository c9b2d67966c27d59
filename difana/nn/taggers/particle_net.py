"""ParticleNet: convolutions over the nearest neighbours of each particle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import BatchNorm, Perceptron, linear, mean_of_real
from difana.nn.taggers.kinematics import centred, particle_features

LITE: dict[str, Any] = {
    "blocks": ((7, (32, 32, 32)), (7, (64, 64, 64))),
    "hidden": (128,),
    "fusion": 0,
}
"""Options of ParticleNet-Lite: ``ParticleNet(2, **LITE, key=key)``."""


class EdgeConv(nnx.Module):
    r"""A convolution over edges to nearest neighbours, with a short cut.

    .. math:: x_i' = \mathrm{ReLU}\Big(\frac1k \sum_{j \in N(i)} h(x_i, x_j - x_i) + S x_i\Big)
    """

    def __init__(
        self,
        neighbours: int,
        inputs: int,
        widths: Sequence[int],
        *,
        rngs: nnx.Rngs,
        dtype: jax.typing.DTypeLike,
    ) -> None:
        ends = [2 * inputs, *widths]
        self.neighbours = neighbours
        self.maps = nnx.List(
            linear(a, b, bias=False, rngs=rngs, dtype=dtype)
            for a, b in zip(ends[:-1], widths, strict=True)
        )
        self.norms = nnx.List(BatchNorm(width, dtype=dtype) for width in widths)
        same = inputs == widths[-1]
        self.short = None if same else linear(inputs, widths[-1], bias=False, rngs=rngs,
                                              dtype=dtype)  # fmt: skip
        self.short_norm = None if same else BatchNorm(widths[-1], dtype=dtype)

    def __call__(self, points: Array, x: Array, mask: Array) -> Array:
        """Return the new features; zeros in the padding.

        With fewer neighbours than wanted the mean is over those that exist.
        """
        nearest, there = nearest_neighbours(points, mask, self.neighbours)
        # the first map is linear in both ends: applied to particles, not to edges
        kernel = self.maps[0].kernel[...]
        own, other = jnp.split(kernel, 2, axis=0)
        sent = x @ other
        h = (x @ (own - other))[:, :, None] + _gathered(sent, nearest)
        for i, norm in enumerate(self.norms):
            h = jax.nn.relu(norm(h if i == 0 else self.maps[i](h), there))
        number = jnp.maximum(jnp.sum(there, axis=2, dtype=h.dtype), 1)
        mean = jnp.sum(jnp.where(there[..., None], h, 0), axis=2) / number[..., None]
        if self.short is not None:
            assert self.short_norm is not None
            x = self.short_norm(self.short(x), mask)
        return jnp.where(mask[..., None], jax.nn.relu(mean + x), 0)


class ParticleNet(Tagger):
    r"""ParticleNet: edge convolutions, the first in the angular plane, then in feature space.

    Args:
        outputs: Number of classes.
        blocks: Number of neighbours and widths of each convolution.
        hidden: Widths behind the pooling.
        fusion: Width of a layer over the outputs of all convolutions (0: none; 384 in weaver).
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Example:
        >>> net = ParticleNet(2, **LITE, key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        Qu, Gouskos, arXiv:1902.08570.
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        blocks: Sequence[tuple[int, Sequence[int]]] = (
            (16, (64, 64, 64)),
            (16, (128, 128, 128)),
            (16, (256, 256, 256)),
        ),
        hidden: Sequence[int] = (256,),
        fusion: int = 0,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        rngs = nnx.Rngs(params=key)
        inputs = 7 + extras
        self.norm = BatchNorm(inputs, dtype=dtype)
        ends = [inputs, *(widths[-1] for _, widths in blocks)]
        self.blocks = nnx.List(
            EdgeConv(k, a, widths, rngs=rngs, dtype=dtype)
            for a, (k, widths) in zip(ends[:-1], blocks, strict=True)
        )
        together = sum(ends[1:])
        self.fusion = (
            linear(together, fusion, bias=False, rngs=rngs, dtype=dtype) if fusion else None
        )
        self.fusion_norm = BatchNorm(fusion, dtype=dtype) if fusion else None
        width = fusion or ends[-1]
        self.head = Perceptron([width + features, *hidden, outputs], rngs=rngs, dtype=dtype)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the mean over the particles."""
        _, dy, dphi = centred(p, mask)
        points = jnp.stack([dy, dphi], axis=-1)
        x = jnp.concatenate([particle_features(p, mask), extra], axis=-1)
        return self.embed_features(points, x, mask)

    def embed_features(self, points: Array, x: Array, mask: Array) -> Array:
        """Return the mean over particles of given coordinates and features."""
        x = jnp.where(mask[..., None], self.norm(x, mask), 0)
        found = []
        for i, block in enumerate(self.blocks):
            x = block(points if i == 0 else x, x, mask)
            found.append(x)
        if self.fusion is not None:
            assert self.fusion_norm is not None
            x = self.fusion(jnp.concatenate(found, axis=-1))
            x = jax.nn.relu(self.fusion_norm(x, mask))
        return mean_of_real(x, mask)

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)


def nearest_neighbours(points: Array, mask: Array, count: int) -> tuple[Array, Array]:
    """Return the indices of the nearest other particles, and which of them exist.

    Example:
        >>> points = jnp.array([[[0.0], [1.0], [3.0], [0.0]]])
        >>> nearest, there = nearest_neighbours(points, jnp.array([[True, True, True, False]]), 1)
        >>> nearest[0, :3, 0].tolist(), there[0, :, 0].tolist()
        ([1, 0, 1], [True, True, True, False])
    """
    points = jax.lax.stop_gradient(points)
    particles = points.shape[1]
    count = min(count, max(particles - 1, 1))
    square = jnp.sum(points**2, axis=-1)
    distance = square[:, :, None] + square[:, None] - 2 * jnp.einsum(
        "eic,ejc->eij", points, points
    )  # fmt: skip
    other = mask[:, None] & mask[:, :, None] & ~jnp.eye(particles, dtype=bool)[None]
    score, nearest = jax.lax.top_k(jnp.where(other, -distance, -jnp.inf), count)
    return nearest, jnp.isfinite(score)


def _gathered(x: Array, index: Array) -> Array:
    """Return the rows of ``x [events, particles, width]`` at ``[events, particles, k]``."""
    events, particles, count = index.shape
    flat = index.reshape(events, particles * count)
    rows = jnp.take_along_axis(x, flat[..., None], axis=1)
    return rows.reshape(events, particles, count, x.shape[-1])
