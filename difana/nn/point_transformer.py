"""A small transformer on an unordered, padded set of particles, with edges to neighbours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from difana._errors import ConfigError
from difana._numerics import third_party_promotion
from difana.data import Inputs
from difana.nn._particles import cloud_of
from difana.nn.mlp import MLP


class PointEdgeTransformer(nnx.Module):
    r"""Particles see their nearest neighbours, then each other; their sum gives the observables.

    .. math::
        h_i = \Phi(p_i) + \frac1K \sum_{j \in N_K(i)} E(h_i, h_j - h_i), \qquad
        h \leftarrow h + A(h), \quad h \leftarrow h + M(h), \qquad
        y = F\Bigl(\sum_{i \in \text{real}} h_i\Bigr)

    :math:`N_K(i)` are the K nearest real particles in the first ``coordinates`` channels, A is
    multi-head attention among the real particles, both A and M act on normalised input. The result
    knows neither the order of the particles nor what padding holds. The sum, unlike the mean, knows
    how many particles there are, as the log ratio of two densities of particles must.

    Args:
        channels: Number of channels of a particle, coordinates first.
        width: Width of all layers.
        out_features: Number of observables.
        heads: Number of attention heads; divides ``width``.
        blocks: Number of attention blocks.
        neighbours: Number of neighbours K; 0 for no edges.
        coordinates: Number of channels in which distances are measured.
        features: Number of features of the event, which the last perceptron sees beside the sum.
        pool: ``"sum"``, or ``"mean"`` over the real particles, which is blind to their number.
        param_dtype: Type of the weights.
        key: Random key of the initialisation.

    Raises:
        ConfigError: If the heads do not divide the width, a number is out of range, or ``pool`` is
            neither sum nor mean.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> net = PointEdgeTransformer(3, 8, blocks=1, key=jax.random.key(0))
        >>> jax.eval_shape(net, jnp.ones((5, 4, 3))).shape
        (5, 1)

    References:
        Mikuni, Nachman, arXiv:2404.16091 (point-edge transformer); Wang et al., arXiv:1801.07829
        (edges).
    """

    def __init__(
        self,
        channels: int,
        width: int = 32,
        out_features: int = 1,
        *,
        heads: int = 2,
        blocks: int = 2,
        neighbours: int = 3,
        coordinates: int = 2,
        features: int = 0,
        pool: str = "sum",
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        if width % heads or heads < 1:
            raise ConfigError(f"heads = {heads} must divide width = {width}")
        if blocks < 1 or neighbours < 0 or not 0 < coordinates <= channels:
            raise ConfigError(
                f"blocks = {blocks}, neighbours = {neighbours}, coordinates = {coordinates}: at"
                f" least one block, no negative number of neighbours, 1 to {channels} coordinates"
            )
        if pool not in ("sum", "mean"):
            raise ConfigError(f"pool must be 'sum' or 'mean', got '{pool}'")
        rngs = nnx.Rngs(params=key)
        keys = jax.random.split(jax.random.fold_in(key, 1), 3 + blocks)
        self.channels, self.heads, self.pool = channels, heads, pool
        self.features = features
        self.neighbours, self.coordinates = neighbours, coordinates
        options = {"activation": "gelu", "param_dtype": param_dtype}
        self.embed = MLP(channels, [width], width, key=keys[0], **options)
        self.edges = MLP(2 * width, [width], width, key=keys[1], **options) if neighbours else None
        self.attention = nnx.List(
            nnx.Linear(width, 3 * width, param_dtype=param_dtype, rngs=rngs) for _ in range(blocks)
        )
        self.mix = nnx.List(
            nnx.Linear(width, width, param_dtype=param_dtype, rngs=rngs) for _ in range(blocks)
        )
        self.forward = nnx.List(
            MLP(width, [2 * width], width, key=keys[3 + b], **options) for b in range(blocks)
        )
        self.readout = MLP(width + features, [width], out_features, key=keys[2], **options)

    def __call__(
        self,
        particles: Float[Array, "events particles channels"] | Inputs,
        mask: Bool[Array, "events particles"] | None = None,
    ) -> Float[Array, "events observables"]:
        """Return the raw observables.

        Args:
            particles: ``Events.inputs``, or padded particles ``[events, particles, channels]``.
            mask: True where a particle is real. Without it, a particle whose channels are all
                zero is padding.

        Raises:
            InputError: If the shapes do not fit the network or each other, or the events have other
                features than the network takes.
        """
        x, mask, beside = cloud_of(particles, mask, channels=self.channels, features=self.features)
        h = self.embed(x)
        if self.edges is not None:
            h = h + self._neighbourhood(h, x[..., : self.coordinates], mask)
        for attention, mix, forward in zip(
            self.attention, self.mix, self.forward, strict=True
        ):  # fmt: skip
            with third_party_promotion():  # events may be wider than the weights
                h = h + mix(self._attend(attention(_normalised(h)), mask))
                h = h + forward(_normalised(h))
        total = jnp.sum(jnp.where(mask[..., None], h, 0), axis=1)
        if self.pool == "mean":
            total = total / jnp.maximum(jnp.sum(mask, axis=1, dtype=h.dtype), 1)[:, None]
        if beside is not None:
            total = jnp.concatenate([total, beside.astype(total.dtype)], axis=-1)
        return self.readout(total)

    def _neighbourhood(self, h: Array, x: Array, mask: Array) -> Array:
        """Return the mean of the edges to the nearest real particles."""
        count = min(self.neighbours, h.shape[1] - 1)
        if count < 1:
            return jnp.zeros_like(h)
        x = jax.lax.stop_gradient(x)
        distance = jnp.sum((x[:, :, None] - x[:, None]) ** 2, axis=-1)
        other = mask[:, None] & ~jnp.eye(h.shape[1], dtype=bool)[None]
        nearest = jax.lax.top_k(jnp.where(other, -distance, -jnp.inf), count)[1]
        there = jnp.take_along_axis(other, nearest, axis=2)[..., None]
        found = jnp.take_along_axis(h[:, None], nearest[..., None], axis=2)
        own = jnp.broadcast_to(h[:, :, None], found.shape)
        edges = self.edges(jnp.concatenate([own, found - own], axis=-1))  # pyright: ignore
        number = jnp.maximum(jnp.sum(there, axis=2, dtype=edges.dtype), 1)
        return jnp.sum(jnp.where(there, edges, 0), axis=2) / number

    def _attend(self, qkv: Array, mask: Array) -> Array:
        events, particles, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        shape = (events, particles, 3, self.heads, width // self.heads)
        query, key, value = jnp.moveaxis(qkv.reshape(shape), 2, 0)
        score = jnp.einsum("eihc,ejhc->ehij", query, key) / jnp.sqrt(width / self.heads)
        score = jnp.where(mask[:, None, None], score, -1e9)
        out = jnp.einsum("ehij,ejhc->eihc", jax.nn.softmax(score, axis=-1), value)
        return out.reshape(events, particles, width)


def _normalised(h: Array) -> Array:
    centred = h - jnp.mean(h, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
