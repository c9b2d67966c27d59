"""A plain transformer, and the same in local frames (LLoCa)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana._errors import ConfigError
from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import attend, gelu, linear, mean_of_real
from difana.nn.taggers.frames import LocalFrames
from difana.nn.taggers.kinematics import minkowski, particle_features

_METRIC = (1.0, -1.0, -1.0, -1.0)


class TransformerBlock(nnx.Module):
    """Attention and a perceptron, each behind a norm without weights and beside a short cut."""

    def __init__(
        self, width: int, heads: int, *, rngs: nnx.Rngs, dtype: jax.typing.DTypeLike
    ) -> None:
        options = {"rngs": rngs, "dtype": dtype}
        self.heads = heads
        self.qkv = linear(width, 3 * width, **options)
        self.mix = linear(width, width, **options)
        self.widen = linear(width, 4 * width, **options)
        self.narrow = linear(4 * width, width, **options)

    def __call__(self, x: Array, mask: Array, *, transport: Transport | None = None) -> Array:
        """Return the particles ``[events, particles, width]``."""
        qkv = self.qkv(_normalised(x))
        # channels before heads, as in the original: weights can be copied
        qkv = qkv.reshape(*qkv.shape[:-1], 3, -1, self.heads)
        query, key, value = jnp.moveaxis(qkv, (-3, -1), (0, 3))
        if transport is None:
            found = attend(query, key, value, mask)
        else:
            found = transport.back(
                attend(
                    transport.out(query), transport.out(key, lower=True), transport.out(value), mask
                )
            )
        x = x + self.mix(found.reshape(x.shape))
        return x + self.narrow(gelu(self.widen(_normalised(x))))


class Transport:
    r"""Moves channels of a head between local frames and the common one.

    Scalars stay; vectors go with the inverse frames, :math:`g L^T g\, v`, there and with
    :math:`L\,v` back, both divided by the Lorentz factor :math:`\gamma_i = (L_i P)_0 / M` of the
    jet of momentum :math:`P`, without which large boosts would dominate.

    Args:
        frames: Transformations ``[events, particles, 4, 4]``.
        jet: Momentum of the jet ``[events, 4]``.
        scalars: Number of scalar channels of a head; the others are vectors.
    """

    def __init__(self, frames: Array, jet: Array, *, scalars: int) -> None:
        """Prepare the matrices."""
        metric = jnp.asarray(_METRIC, frames.dtype)
        mass = jnp.sqrt(1e-4 + jnp.maximum(minkowski(jet, jet), 0))
        gamma = jnp.einsum("epj,ej->ep", frames[..., 0, :], jet) / mass[:, None]
        # it normalises: no derivative into the frames
        shrink = 1 / jax.lax.stop_gradient(jnp.maximum(gamma, 1e-3))[..., None, None]
        inverse = jnp.swapaxes(frames, -1, -2) * metric[:, None] * metric
        self.scalars = scalars
        self.forward = frames * shrink
        self.inverse = inverse * shrink
        self.lowered = self.inverse * metric[:, None]

    def out(self, x: Array, *, lower: bool = False) -> Array:
        """Return channels ``[events, particles, heads, width]`` in the common frame."""
        return self._moved(x, self.lowered if lower else self.inverse)

    def back(self, x: Array) -> Array:
        """Return channels in the local frames."""
        return self._moved(x, self.forward)

    def _moved(self, x: Array, matrices: Array) -> Array:
        v = x[..., self.scalars :]
        v = v.reshape(*v.shape[:-1], -1, 4)
        v = jnp.einsum("epij,ephcj->ephci", matrices, v)
        return jnp.concatenate([x[..., : self.scalars], v.reshape(*v.shape[:-2], -1)], axis=-1)


class Transformer(Tagger):
    r"""A plain transformer of the usual features of particles, mean over them at the end.

    Args:
        outputs: Number of classes.
        width: Width of the blocks.
        heads: Number of attention heads.
        blocks: Number of blocks.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Raises:
        ConfigError: If the heads do not divide the width.

    Example:
        >>> net = Transformer(2, width=16, heads=2, blocks=1, key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        width: int = 128,
        heads: int = 8,
        blocks: int = 10,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        if heads < 1 or width % heads:
            raise ConfigError(f"heads = {heads} must divide the width {width}")
        rngs = nnx.Rngs(params=key)
        self.first = linear(7 + extras, width, rngs=rngs, dtype=dtype)
        self.blocks = nnx.List(
            TransformerBlock(width, heads, rngs=rngs, dtype=dtype) for _ in range(blocks)
        )
        self.head = linear(width + features, outputs, rngs=rngs, dtype=dtype)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the mean over the particles."""
        x = jnp.concatenate([particle_features(p, mask), extra], axis=-1)
        return mean_of_real(self.transform(x, mask), mask)

    def transform(self, x: Array, mask: Array, *, transport: Transport | None = None) -> Array:
        """Return the particles behind the last block."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x, mask, transport=transport)
        return x

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)


class LLoCaTransformer(Transformer):
    r"""A transformer in local frames: half of the channels of a head are vectors on the way.

    Each particle is described in its own learned frame; what it tells others is moved from frame to
    frame. The result is invariant but for beams and time axis.

    Args:
        outputs: Number of classes.
        width: Width of the blocks; each head has at least eight channels, in fours.
        heads: Number of attention heads.
        blocks: Number of blocks.
        hidden: Width of the perceptron of the frames.
        spurions: Whether beams and time axis take part in the frames.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Raises:
        ConfigError: If the widths do not fit.

    Example:
        >>> net = LLoCaTransformer(2, width=16, heads=2, blocks=1, key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        Spinner et al., arXiv:2505.20280; Favaro et al., arXiv:2508.14898.
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        width: int = 128,
        heads: int = 8,
        blocks: int = 10,
        hidden: int = 32,
        spurions: bool = True,
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
        if width // heads % 8:
            raise ConfigError(f"width = {width}: each of {heads} heads needs a multiple of 8")
        self.scalars = width // heads // 2
        self.frames = LocalFrames(
            extras, hidden=hidden, spurions=spurions, dtype=dtype, key=keys[1]
        )

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the mean over the particles."""
        frames = self.frames(p, extra, mask)
        jet = jnp.sum(jnp.where(mask[..., None], p, 0), axis=1)
        local = jnp.einsum("epij,epj->epi", frames, p)
        seen = jnp.einsum("epij,ej->epi", frames, jet)
        x = jnp.concatenate([particle_features(local, mask, jet=seen), extra], axis=-1)
        transport = Transport(frames, jet, scalars=self.scalars)
        return mean_of_real(self.transform(x, mask, transport=transport), mask)


def _normalised(x: Array) -> Array:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
