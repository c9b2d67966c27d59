"""L-GATr-slim: an equivariant transformer of vectors and scalars."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import attend, linear, mean_of_real
from difana.nn.taggers._spurions import LIGHTLIKE_BEAMS, TIME, with_beams

Both = tuple[Array, Array]
"""Vectors ``[..., 4, channels]`` and scalars ``[..., channels]``."""

METRIC = (1.0, -1.0, -1.0, -1.0)

SLIM_NANO: dict[str, Any] = {
    "vectors": 8, "scalars": 16, "heads": 2, "blocks": 3, "expansion": 2,
}  # fmt: skip
"""Options of a network of ten thousand parameters: ``LGATrSlim(2, **SLIM_NANO, key=key)``."""


class BothLinear(nnx.Module):
    """A linear map of vectors, and an affine one of scalars."""

    def __init__(
        self,
        inputs: tuple[int, int],
        outputs: tuple[int, int],
        *,
        rngs: nnx.Rngs,
        dtype: jax.typing.DTypeLike,
        bias: bool = True,
        small: bool = False,
    ) -> None:
        factor = 0.1 if small else 1.0

        def uniform(shape: tuple[int, int]) -> nnx.Param:
            width = factor / max(shape[0], 1) ** 0.5
            return nnx.Param(
                jax.random.uniform(rngs.params(), shape, dtype, minval=-width, maxval=width)
            )

        self.vectors = uniform((inputs[0], outputs[0]))
        self.scalars = uniform((inputs[1], outputs[1]))
        self.bias = nnx.Param(jnp.zeros(outputs[1], dtype)) if bias else None

    def __call__(self, v: Array, s: Array) -> Both:
        """Return both outputs."""
        s = s @ self.scalars[...]
        return v @ self.vectors[...], s if self.bias is None else s + self.bias[...]


def normalised(v: Array, s: Array) -> Both:
    r"""Return both divided by their common size, :math:`\sqrt{\overline{|v^2|, s^2} + 0.01}`."""
    square = jnp.abs(jnp.sum(v**2 * jnp.asarray(METRIC, v.dtype)[:, None], axis=-2))
    mean = (square.sum(axis=-1) + (s**2).sum(axis=-1)) / (square.shape[-1] + s.shape[-1])
    size = jax.lax.rsqrt(mean + 0.01)
    return v * size[..., None, None], s * size[..., None]


class SlimBlock(nnx.Module):
    """Attention by Minkowski products and scalars, then gates; a norm before, a sum behind."""

    def __init__(
        self,
        vectors: int,
        scalars: int,
        heads: int,
        *,
        expansion: int,
        rngs: nnx.Rngs,
        dtype: jax.typing.DTypeLike,
    ) -> None:
        options: dict[str, Any] = {"rngs": rngs, "dtype": dtype}
        self.heads = heads
        self.size = max(vectors // heads, 1), max(scalars // heads, 4)
        own, inner = (vectors, scalars), (self.size[0] * heads, self.size[1] * heads)
        self.gains = nnx.List(
            nnx.Param(jnp.ones(n, dtype)) for n in (vectors, scalars, vectors, scalars)
        )
        thrice = (3 * inner[0], 3 * inner[1])
        self.qkv = BothLinear(own, thrice, bias=False, small=True, **options)
        self.mix = BothLinear(inner, own, small=True, **options)
        wide = (expansion * vectors, expansion * scalars)
        self.gate = BothLinear(own, (3 * wide[0], 2 * wide[1]), **options)
        self.narrow = BothLinear(wide, own, **options)

    def __call__(self, v: Array, s: Array, mask: Array) -> Both:
        """Return vectors and scalars of the particles."""
        gains = [gain[...] for gain in self.gains]
        hv, hs = normalised(v, s)
        hv, hs = self._attention(hv * gains[0], hs * gains[1], mask)
        v, s = v + hv, s + hs
        hv, hs = normalised(v, s)
        hv, hs = self._gated(hv * gains[2], hs * gains[3])
        return v + hv, s + hs

    def _attention(self, v: Array, s: Array, mask: Array) -> Both:
        metric = jnp.asarray(METRIC, v.dtype)
        qkv_v, qkv_s = self.qkv(v, s)
        # channels come before heads, as in the original: weights can be copied
        qkv_v = qkv_v.reshape(*qkv_v.shape[:-1], 3, self.size[0], self.heads)
        qkv_s = qkv_s.reshape(*qkv_s.shape[:-1], 3, self.size[1], self.heads)
        qkv_v = jnp.moveaxis(qkv_v, (-3, -1), (0, 3))  # [3, events, particles, heads, 4, channels]
        qkv_s = jnp.moveaxis(qkv_s, (-3, -1), (0, 3))  # [3, events, particles, heads, channels]
        qkv_v, qkv_s = normalised(qkv_v, qkv_s)

        def together(i: int, vectors: Array) -> Array:
            flat = vectors.reshape(*vectors.shape[:-2], -1)
            return jnp.concatenate([flat, qkv_s[i]], axis=-1)

        query = together(0, qkv_v[0] * metric[:, None])
        found = attend(query, together(1, qkv_v[1]), together(2, qkv_v[2]), mask)
        edge = 4 * self.size[0]
        out_v = found[..., :edge].reshape(*found.shape[:-1], 4, self.size[0])
        out_v = jnp.moveaxis(out_v, 2, 3).reshape(*v.shape[:-1], -1)  # heads before channels
        return self.mix(out_v, found[..., edge:].reshape(*s.shape[:-1], -1))

    def _gated(self, v: Array, s: Array) -> Both:
        metric = jnp.asarray(METRIC, v.dtype)
        wide_v, wide_s = self.gate(v, s)
        value, one, two = jnp.split(wide_v, 3, axis=-1)
        inner = 0.5 * jnp.sum(one * two * metric[:, None], axis=-2, keepdims=True)
        value_s, gate_s = jnp.split(wide_s, 2, axis=-1)
        return self.narrow(
            jax.nn.sigmoid(inner) * value, jax.nn.gelu(gate_s, approximate=True) * value_s
        )


class LGATrSlim(Tagger):
    r"""L-GATr-slim: channels of Lorentz vectors and of scalars, equivariant layers.

    The beams and the time axis of the detector are three further particles, which break the
    symmetry; transformed with the jet, they leave the result unchanged.

    Args:
        outputs: Number of classes.
        vectors: Number of vector channels.
        scalars: Number of scalar channels.
        heads: Number of attention heads.
        blocks: Number of blocks.
        expansion: How many times wider the gated layers are.
        spurions: Whether beams and time axis are particles, too.
        scale: Momenta are divided by it, GeV.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Example:
        >>> net = LGATrSlim(2, **SLIM_NANO, key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        Petitjean et al., arXiv:2512.17011; Brehmer et al., arXiv:2411.00446 (L-GATr).
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        vectors: int = 32,
        scalars: int = 96,
        heads: int = 8,
        blocks: int = 12,
        expansion: int = 4,
        spurions: bool = True,
        scale: float = 20.0,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        rngs = nnx.Rngs(params=key)
        self.scale = scale
        self.beams = (*LIGHTLIKE_BEAMS, TIME) if spurions else ()
        inputs = (1, 1 + bool(spurions) + extras)
        self.first = BothLinear(inputs, (vectors, scalars), rngs=rngs, dtype=dtype)
        self.blocks = nnx.List(
            SlimBlock(vectors, scalars, heads, expansion=expansion, rngs=rngs, dtype=dtype)
            for _ in range(blocks)
        )
        self.head = linear(scalars + features, outputs, rngs=rngs, dtype=dtype)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the mean of the scalars over the particles."""
        x, label, mask = with_beams(p / self.scale, mask, self.beams)
        extra = jnp.pad(extra, ((0, 0), (len(self.beams), 0), (0, 0)))
        s = jnp.concatenate([label, extra], axis=-1)
        return mean_of_real(self.transform(x[..., None], s, mask)[1], mask)

    def transform(self, v: Array, s: Array, mask: Array) -> Both:
        """Return the hidden vectors and scalars of the particles.

        Args:
            v: Vectors ``[events, particles, 4, channels]``.
            s: Scalars ``[events, particles, channels]``.
            mask: True where a particle is real.
        """
        v, s = self.first(v, s)
        for block in self.blocks:
            v, s = block(v, s, mask)
        return v, s

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)
