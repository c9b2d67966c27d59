"""Layers that taggers share: masked batch normalisation, attention, pooling, perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from difana._numerics import third_party_promotion

Activation = Callable[[Array], Array]


def gelu(x: Array) -> Array:
    """Return the exact GELU."""
    return jax.nn.gelu(x, approximate=False)


def linear(
    inputs: int,
    outputs: int,
    *,
    rngs: nnx.Rngs,
    dtype: jax.typing.DTypeLike,
    bias: bool = True,
    gain: float = 1.0,
) -> nnx.Linear:
    """Return an affine map, uniform at the start: as in torch, or ``gain`` times as wide."""
    width = gain / max(inputs, 1) ** 0.5
    start = jax.nn.initializers.uniform(2 * width)

    def centred(key: Array, shape: tuple[int, ...], kind: jax.typing.DTypeLike) -> Array:
        return start(key, shape, kind) - jnp.asarray(width, kind)

    return nnx.Linear(
        inputs, outputs, use_bias=bias, param_dtype=dtype, kernel_init=centred, rngs=rngs
    )


def layer_norm(width: int, *, rngs: nnx.Rngs, dtype: jax.typing.DTypeLike) -> nnx.LayerNorm:
    """Return a layer normalisation that is exact in float32."""
    return nnx.LayerNorm(width, epsilon=1e-5, param_dtype=dtype, use_fast_variance=False, rngs=rngs)


class BatchNorm(nnx.Module):
    """Batch normalisation over real entries alone, in its state of evaluation when made.

    Running statistics move by a tenth of those of the batch; a batch without real entries leaves
    them as they are.
    """

    def __init__(self, width: int, *, dtype: jax.typing.DTypeLike) -> None:
        self.scale = nnx.Param(jnp.ones(width, dtype))
        self.bias = nnx.Param(jnp.zeros(width, dtype))
        self.mean = nnx.BatchStat(jnp.zeros(width, dtype))
        self.var = nnx.BatchStat(jnp.ones(width, dtype))
        self.use_running_average = True

    def __call__(
        self, x: Float[Array, "*batch width"], mask: Bool[Array, " *batch"] | None = None
    ) -> Float[Array, "*batch width"]:
        """Return the normalised entries."""
        with third_party_promotion():
            return self._normalised(x, mask)

    def _normalised(self, x: Array, mask: Array | None) -> Array:
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            axes = tuple(range(x.ndim - 1))
            weights = jnp.ones(x.shape[:-1], x.dtype) if mask is None else mask.astype(x.dtype)
            total = jnp.sum(weights)
            norm = jnp.maximum(total, 1)
            own = jnp.sum(x * weights[..., None], axis=axes) / norm
            spread = jnp.sum((x - own) ** 2 * weights[..., None], axis=axes) / norm
            share = jnp.where(total > 1, 0.1, 0.0).astype(x.dtype)
            unbiased = spread * norm / jnp.maximum(norm - 1, 1)
            self.mean[...] = jax.lax.stop_gradient((1 - share) * mean + share * own)
            self.var[...] = jax.lax.stop_gradient((1 - share) * var + share * unbiased)
            mean, var = own, spread
        return (x - mean) * (self.scale[...] * jax.lax.rsqrt(var + 1e-5)) + self.bias[...]


class Perceptron(nnx.Module):
    """Affine maps with an activation between them, none behind the last one."""

    def __init__(
        self,
        widths: Sequence[int],
        *,
        rngs: nnx.Rngs,
        dtype: jax.typing.DTypeLike,
        activation: Activation = jax.nn.relu,
    ) -> None:
        # as wide as a ReLU needs it to hand on the variance, which no norm here restores
        gains = [6**0.5] * (len(widths) - 2) + [1.0]
        self.layers = nnx.List(
            linear(a, b, rngs=rngs, dtype=dtype, gain=gain)
            for (a, b), gain in zip(itertools.pairwise(widths), gains, strict=True)
        )
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        """Return the outputs."""
        *first, last = self.layers
        for layer in first:
            x = self.activation(layer(x))
        return last(x)


def attend(
    query: Float[Array, "events queries heads width"],
    key: Float[Array, "events particles heads width"],
    value: Float[Array, "events particles heads other"],
    mask: Bool[Array, "events particles"],
    *,
    bias: Float[Array, "events heads queries particles"] | None = None,
) -> Float[Array, "events queries heads other"]:
    """Return scaled dot-product attention to real particles; finite where there are none."""
    score = jnp.einsum("eqhc,ekhc->ehqk", query * query.shape[-1] ** -0.5, key)
    if bias is not None:
        score = score + bias
    score = jnp.where(mask[:, None, None], score, -1e9)
    return jnp.einsum("ehqk,ekhc->eqhc", jax.nn.softmax(score, axis=-1), value)


def mean_of_real(
    x: Float[Array, "events particles width"], mask: Bool[Array, "events particles"]
) -> Float[Array, "events width"]:
    """Return the mean over real particles, zeros where there are none."""
    total = jnp.sum(jnp.where(mask[..., None], x, 0), axis=1)
    return total / jnp.maximum(jnp.sum(mask, axis=1, dtype=x.dtype), 1)[:, None]
