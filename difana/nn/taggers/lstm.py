"""A recurrent network over the constituents, softest first."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import Perceptron, linear
from difana.nn.taggers.kinematics import particle_features, transverse


class LSTM(Tagger):
    """Point-wise layers, then an LSTM from the softest to the hardest particle (DeepJet-like).

    Args:
        outputs: Number of classes.
        point: Widths of the layers of a particle.
        width: Width of the LSTM.
        hidden: Widths behind it.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Example:
        >>> net = LSTM(2, point=(8,), width=8, hidden=(8,), key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        Bols et al., arXiv:2008.10519.
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        point: Sequence[int] = (64, 32, 32, 8),
        width: int = 150,
        hidden: Sequence[int] = (200, 100, 100),
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        rngs = nnx.Rngs(params=key)
        options = {"rngs": rngs, "dtype": dtype}
        self.width = width
        self.point = Perceptron([7 + extras, *point], **options)
        self.given = linear(point[-1], 4 * width, **options)
        self.kept = linear(width, 4 * width, bias=False, **options)
        self.head = Perceptron([width + features, *hidden, outputs], **options)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the state behind the hardest particle."""
        order = jnp.argsort(jnp.where(mask, transverse(p)[0], -1.0), axis=1)
        x = jnp.concatenate([particle_features(p, mask), extra], axis=-1)
        x = jnp.take_along_axis(x, order[..., None], axis=1)
        mask = jnp.take_along_axis(mask, order, axis=1)
        given = self.given(jax.nn.relu(self.point(x)))
        kernel = self.kept.kernel[...]
        start = jnp.zeros((len(x), self.width), x.dtype)

        def step(state: tuple[Array, Array], now: tuple[Array, Array]) -> tuple:
            h, c = state
            gates, there = now
            take, forget, new, show = jnp.split(gates + h @ kernel, 4, axis=-1)
            cell = jax.nn.sigmoid(forget + 1) * c + jax.nn.sigmoid(take) * jnp.tanh(new)
            out = jax.nn.sigmoid(show) * jnp.tanh(cell)
            keep = there[:, None]
            return (jnp.where(keep, out, h), jnp.where(keep, cell, c)), None

        rows = jnp.swapaxes(given, 0, 1), mask.T
        (h, _), _ = jax.lax.scan(step, (start, start), rows)
        return h

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)
