"""Particle Transformer: attention with features of pairs as a bias."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana._errors import ConfigError
from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import BatchNorm, Perceptron, attend, gelu, layer_norm, linear
from difana.nn.taggers.kinematics import pair_features, particle_features


class Block(nnx.Module):
    """An attention block in the manner of NormFormer: norms behind, scaled heads and residuals."""

    def __init__(
        self, width: int, heads: int, *, rngs: nnx.Rngs, dtype: jax.typing.DTypeLike
    ) -> None:
        options = {"rngs": rngs, "dtype": dtype}
        self.heads = heads
        self.before = layer_norm(width, **options)
        self.qkv = linear(width, 3 * width, **options)
        self.mix = linear(width, width, **options)
        self.head_scale = nnx.Param(jnp.ones(heads, dtype))
        self.behind = layer_norm(width, **options)
        self.before_hidden = layer_norm(width, **options)
        self.widen = linear(width, 4 * width, **options)
        self.behind_hidden = layer_norm(4 * width, **options)
        self.narrow = linear(4 * width, width, **options)
        self.residual_scale = nnx.Param(jnp.ones(width, dtype))

    def __call__(
        self, x: Array, mask: Array, *, bias: Array | None = None, token: Array | None = None
    ) -> Array:
        """Return the particles, or the token that has looked at them.

        Args:
            x: Particles ``[events, particles, width]``.
            mask: True where one is real.
            bias: Added to the attention.
            token: Class token ``[events, 1, width]``, which alone asks if it is given.
        """
        residual = x if token is None else token
        if token is None:
            normed = self.before(x)
            asked = normed
        else:
            # the token itself is asked without normalisation, as in the original
            normed = self.before(jnp.concatenate([token, x], axis=1))
            asked = token
            mask = jnp.concatenate([jnp.ones_like(mask[:, :1]), mask], axis=1)
        assert self.qkv.bias is not None
        kernel, offset = self.qkv.kernel[...], self.qkv.bias[...]
        width = x.shape[-1]
        query = self._split(asked @ kernel[:, :width] + offset[:width])
        both = normed @ kernel[:, width:] + offset[width:]
        key, value = (self._split(part) for part in jnp.split(both, 2, axis=-1))
        found = attend(query, key, value, mask, bias=bias).reshape(residual.shape)
        found = self._split(self.mix(found)) * self.head_scale[...][:, None]
        x = self.behind(found.reshape(residual.shape)) + residual
        hidden = self.behind_hidden(gelu(self.widen(self.before_hidden(x))))
        return self.narrow(hidden) + x * self.residual_scale[...]

    def _split(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


class PairEmbedding(nnx.Module):
    """Point-wise maps from the features of a pair to a bias for each head."""

    def __init__(
        self, inputs: int, widths: Sequence[int], *, rngs: nnx.Rngs, dtype: jax.typing.DTypeLike
    ) -> None:
        ends = [inputs, *widths]
        self.first = BatchNorm(inputs, dtype=dtype)
        self.maps = nnx.List(
            linear(a, b, rngs=rngs, dtype=dtype) for a, b in zip(ends[:-1], widths, strict=True)
        )
        self.norms = nnx.List(BatchNorm(width, dtype=dtype) for width in widths)

    def __call__(self, pairs: Array, mask: Array) -> Array:
        """Return ``[events, heads, particles, particles]`` of symmetric features of pairs."""
        size = pairs.shape[1]
        row, column = jnp.tril_indices(size)  # half of the work
        there = mask[:, row] & mask[:, column]
        x = self.first(pairs[:, row, column], there)
        for i, (layer, norm) in enumerate(zip(self.maps, self.norms, strict=True)):
            x = norm(layer(x), there)
            if i + 1 < len(self.maps):
                x = gelu(x)
        x = jnp.moveaxis(jnp.where(there[..., None], x, 0), -1, 1)
        place = jnp.zeros((size, size), int).at[row, column].set(jnp.arange(len(row)))
        place = jnp.maximum(place, place.T)
        return x[:, :, place]


class ParticleTransformer(Tagger):
    r"""Particle Transformer (ParT).

    .. math:: \mathrm{softmax}\Big(\frac{Q K^T}{\sqrt d} + U\Big) V, \qquad
              U_{ij} = f(\ln k_T, \ln z, \ln\Delta, \ln m^2)

    Args:
        outputs: Number of classes.
        embedding: Widths of the layers before the first block; the last one is that of the blocks.
        pairs: Widths of the layers of a pair.
        heads: Number of attention heads.
        blocks: Number of blocks of particles.
        class_blocks: Number of blocks in which a class token asks the particles.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Raises:
        ConfigError: If the heads do not divide the width.

    Example:
        >>> net = ParticleTransformer(
        ...     2, embedding=(16,), pairs=(8,), heads=2, blocks=1, class_blocks=1,
        ...     key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        Qu, Li, Qian, arXiv:2202.03772.
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        embedding: Sequence[int] = (128, 512, 128),
        pairs: Sequence[int] = (64, 64, 64),
        heads: int = 8,
        blocks: int = 8,
        class_blocks: int = 2,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        width = embedding[-1]
        if heads < 1 or width % heads:
            raise ConfigError(f"heads = {heads} must divide the width {width}")
        rngs = nnx.Rngs(params=key)
        options = {"rngs": rngs, "dtype": dtype}
        inputs = 7 + extras
        self.input_norm = BatchNorm(inputs, dtype=dtype)
        ends = [inputs, *embedding]
        self.norms = nnx.List(layer_norm(a, **options) for a in ends[:-1])
        self.maps = nnx.List(
            linear(a, b, **options) for a, b in zip(ends[:-1], embedding, strict=True)
        )
        self.pairs = PairEmbedding(4, [*pairs, heads], **options)
        self.blocks = nnx.List(Block(width, heads, **options) for _ in range(blocks))
        self.class_blocks = nnx.List(Block(width, heads, **options) for _ in range(class_blocks))
        self.token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, width), dtype))
        self.last = layer_norm(width, **options)
        self.head = Perceptron([width + features, outputs], **options)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the class token behind the last block."""
        x = jnp.concatenate([particle_features(p, mask), extra], axis=-1)
        return self.embed_features(x, pair_features(p, mask), mask)

    def embed_features(self, x: Array, pairs: Array, mask: Array) -> Array:
        """Return the class token for given features of particles and pairs."""
        x = self.input_norm(x, mask)
        for norm, layer in zip(self.norms, self.maps, strict=True):
            x = gelu(layer(norm(x)))
        x = jnp.where(mask[..., None], x, 0)
        bias = self.pairs(pairs, mask)
        for block in self.blocks:
            x = block(x, mask, bias=bias)
        token = jnp.broadcast_to(self.token[...], (len(x), 1, x.shape[-1]))
        for block in self.class_blocks:
            token = block(x, mask, token=token)
        return self.last(token[:, 0])

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)
