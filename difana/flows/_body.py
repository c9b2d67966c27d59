"""The trained part of a flow: layers in a scan, between standardised columns and a base."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._typing import PyTree
from difana.flows._layers import LU, Autoregressive, Coupling, Mixed
from difana.flows._transformers import Transformer
from difana.nn import MLP

Mixing = Literal["permutation", "lu"]
Kind = Literal["coupling", "autoregressive", "inverse_autoregressive"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What layers are made of; with a key it makes new ones of the same shapes.

    Attributes:
        kind: Kind of the layers.
        dims: Columns.
        given: Numbers of the context.
        layers: Their number.
        hidden: Widths of the hidden layers of the conditioners.
        transformer: What moves a column.
        mixing: What stands between the layers.
        periodic: Columns on a circle.
        half: Whether conditioners compute in bfloat16.
    """

    kind: Kind
    dims: int
    given: int
    layers: int
    hidden: tuple[int, ...]
    transformer: Transformer
    mixing: Mixing = "permutation"
    periodic: tuple[int, ...] = ()
    half: bool = False

    def make(self, key: PRNGKeyArray) -> Stack:
        """Return new layers: an identity, as the last weights of the conditioners are zero."""
        leaves = jax.vmap(lambda one: eqx.filter(self._layer(one), eqx.is_inexact_array))(
            jax.random.split(key, self.layers)
        )
        static = eqx.filter(self._layer(key), eqx.is_inexact_array, inverse=True)
        whole = eqx.combine(leaves, static)
        where: Callable = (lambda m: m.layer.order) if self.mixing == "lu" else lambda m: m.order
        whole = eqx.tree_at(where, whole, _orders(self.layers, self.dims, self.kind))
        if self.periodic:  # scanned like the orders
            flags = np.isin(np.arange(self.dims), self.periodic)
            whole = eqx.tree_at(
                lambda m: m.periodic, whole, np.broadcast_to(flags, (self.layers, self.dims))
            )
        return Stack(whole, self)

    def _layer(self, key: PRNGKeyArray) -> Coupling | Autoregressive | Mixed:
        ring = np.isin(np.arange(self.dims), self.periodic) if self.periodic else None
        order, passing = np.arange(self.dims), self.dims // 2
        seen = passing if self.kind == "coupling" else self.dims
        moved = self.dims - passing if self.kind == "coupling" else self.dims
        net = MLP(
            max(seen * (2 if self.periodic else 1) + self.given, 1),
            self.hidden,
            moved * self.transformer.size,
            activation="silu",
            dtype=jnp.bfloat16 if self.half else None,
            key=key,
        )
        kernel = net.layers[-1].kernel
        kernel[...] = jnp.zeros_like(kernel[...])
        if self.kind == "coupling":
            layer = Coupling(net, order, ring, self.transformer, passing)
        else:
            swapped = self.kind == "inverse_autoregressive"
            layer = Autoregressive(net, order, ring, self.transformer, swapped)
        if self.mixing == "lu":
            return Mixed(LU(jnp.zeros((self.dims, self.dims), jnp.float32)), layer)
        return layer


class Stack(eqx.Module):
    """Layers one after the other; the graph does not grow with their number.

    Attributes:
        layers: One layer whose leaves have a leading axis of layers.
        recipe: What they were made of (static).
    """

    layers: PyTree
    recipe: Recipe = eqx.field(static=True)

    def forward(self, x: Array, context: Array) -> tuple[Array, Array]:
        """Return latent values and log determinant of standardised columns."""
        return self._scan(x, context, forward=True)

    def inverse(self, z: Array, context: Array) -> Array:
        """Return the columns of latent values."""
        return self._scan(z, context, forward=False)[0]

    def base_log_prob(self, z: Float[Array, "*rows dims"]) -> Float[Array, "*rows"]:
        """Return the log density of the base: normal, on a circle and in a cube uniform."""
        logs = -0.5 * z * z - 0.5 * jnp.log(2 * jnp.asarray(jnp.pi, z.dtype))
        if self._flat.any():
            flat = -jnp.log(jnp.asarray(2 * self.recipe.transformer.bound, z.dtype))
            logs = jnp.where(self._uniform(z), flat, logs)
        return jnp.sum(logs, axis=-1)

    def from_normal(self, noise: Float[Array, "*rows dims"]) -> Float[Array, "*rows dims"]:
        """Return draws of the base from draws of the normal distribution."""
        if not self._flat.any():
            return noise
        flat = self.recipe.transformer.bound * jax.scipy.special.erf(noise / jnp.sqrt(2.0))
        return jnp.where(self._uniform(noise), flat.astype(noise.dtype), noise)

    def losses(
        self, x: Float[Array, "rows dims"], context: Array, key: PRNGKeyArray
    ) -> Float[Array, " rows"]:
        r"""Return what is minimised for each row: :math:`-\ln p`."""
        z, log_det = self.forward(x, context)
        return -self.base_log_prob(z) - log_det

    def fresh(self, key: PRNGKeyArray) -> Stack:
        """Return new layers of the same shapes."""
        return self.recipe.make(key)

    def _uniform(self, z: Array) -> Array:
        return jnp.broadcast_to(jnp.asarray(self._flat), z.shape)

    @property
    def _flat(self) -> np.ndarray:
        """Which columns have a uniform base: those on circles, or all of a cube."""
        if self.recipe.transformer.ends == "free":
            return np.ones(self.recipe.dims, bool)
        return np.isin(np.arange(self.recipe.dims), self.recipe.periodic)

    def _scan(self, x: Array, context: Array, *, forward: bool) -> tuple[Array, Array]:
        leaves, static = eqx.partition(self.layers, _scanned)

        def step(carry: tuple, own: PyTree) -> tuple[tuple, None]:
            values, total = carry
            layer = eqx.combine(own, static)
            move = layer.forward if forward else layer.inverse
            values, log_det = move(values, context)
            return (values, total + log_det), None

        start = (x, jnp.zeros(x.shape[:-1], x.dtype))
        return jax.lax.scan(step, start, leaves, reverse=not forward)[0]


def _scanned(leaf: object) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray)


def _orders(layers: int, dims: int, kind: Kind) -> np.ndarray:
    """Return the order of the columns in each layer: in pairs, which exchange first and last.

    So two coupling layers move every column, and columns that come last in one autoregressive
    layer come first in the next.
    """
    rows = []
    for layer in range(layers):
        order = np.arange(dims)
        if layer > 1:
            order = np.random.default_rng(layer // 2).permutation(dims)
        if layer % 2:
            order = np.roll(order, -(dims // 2)) if kind == "coupling" else order[::-1]
        rows.append(order)
    return np.stack(rows)
