"""Layers of a flow: coupling and autoregressive, each behind a permutation or an LU mixing."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from difana._numerics import third_party_promotion
from difana._typing import PyTree
from difana.flows._transformers import Transformer
from difana.nn import activation


class Coupling(eqx.Module):
    r"""One half of the columns passes and sets how the other half is moved.

    .. math:: y_A = x_A, \qquad y_B = g(x_B;\, \theta(x_A, c))

    Attributes:
        net: Conditioner; columns that pass and context in, parameters out.
        order: Columns in the order in which they are halved, ``[dims]``: the first ``passing``.
        periodic: Columns on a circle, in their own order; None where there are none.
        transformer: What moves the columns (static).
        passing: Number of columns that pass (static).
    """

    net: PyTree
    order: Int[Array | np.ndarray, " dims"]
    periodic: Bool[Array | np.ndarray, " dims"] | None
    transformer: Transformer = eqx.field(static=True)
    passing: int = eqx.field(static=True)

    def forward(self, x: Array, context: Array) -> tuple[Array, Array]:
        """Return the values moved and the log determinant."""
        return self._moved(x, context, forward=True)

    def inverse(self, z: Array, context: Array) -> tuple[Array, Array]:
        """Return the values moved back and the log determinant of the way forward."""
        return self._moved(z, context, forward=False)

    def _moved(self, x: Array, context: Array, *, forward: bool) -> tuple[Array, Array]:
        order = jnp.asarray(self.order)
        sorted_ = jnp.take(x, order, axis=-1)
        kept, moved = sorted_[..., : self.passing], sorted_[..., self.passing :]
        periodic = None if self.periodic is None else jnp.asarray(self.periodic)[order]
        flags = None if periodic is None else periodic[: self.passing]
        params = self.net(_given(kept, context, flags, self.transformer.bound))
        params = params.reshape(*moved.shape, self.transformer.size).astype(x.dtype)
        ring = None if periodic is None else periodic[self.passing :]
        move = self.transformer.forward if forward else self.transformer.inverse
        moved, slopes = move(params, moved, ring)
        back = jnp.argsort(order)
        values = jnp.take(jnp.concatenate([kept, moved], axis=-1), back, axis=-1)
        return values, jnp.sum(slopes, axis=-1)


class Autoregressive(eqx.Module):
    r"""Each column is moved as those before it say, by a network with masked weights.

    .. math:: y_i = g(x_i;\, \theta_i(x_1, \dots, x_{i-1}, c))

    One pass forward; back, one pass a column. With ``swapped`` the two directions change places
    (the inverse autoregressive flow: fast samples, slow densities).

    Attributes:
        net: The network whose weights are masked; columns and context in, parameters out.
        order: Columns in the order in which they follow on each other, ``[dims]``.
        periodic: Columns on a circle, in their own order; None where there are none.
        transformer: What moves the columns (static).
        swapped: Whether forward and inverse change places (static).

    References:
        arXiv:1502.03509 (MADE), arXiv:1705.07057 (MAF), arXiv:1606.04934 (IAF).
    """

    net: PyTree
    order: Int[Array | np.ndarray, " dims"]
    periodic: Bool[Array | np.ndarray, " dims"] | None
    transformer: Transformer = eqx.field(static=True)
    swapped: bool = eqx.field(static=True)

    def forward(self, x: Array, context: Array) -> tuple[Array, Array]:
        """Return the values moved and the log determinant."""
        if self.swapped:
            values, log_det = self._column_by_column(x, context)
            return values, -log_det
        return self._at_once(x, context)

    def inverse(self, z: Array, context: Array) -> tuple[Array, Array]:
        """Return the values moved back and the log determinant of the way forward."""
        if self.swapped:
            values, log_det = self._at_once(z, context)
            return values, -log_det
        return self._column_by_column(z, context)

    def _at_once(self, x: Array, context: Array) -> tuple[Array, Array]:
        order = jnp.asarray(self.order)
        x = jnp.take(x, order, axis=-1)
        ring = None if self.periodic is None else jnp.asarray(self.periodic)[order]
        kernels, biases = self._weights()
        hidden = self._hidden(x, context, ring)
        with third_party_promotion():
            params = hidden @ kernels[-1] + biases[-1]
        params = params.reshape(*x.shape, self.transformer.size).astype(x.dtype)
        moved, slopes = self.transformer.forward(params, x, ring)
        return jnp.take(moved, jnp.argsort(order), axis=-1), jnp.sum(slopes, axis=-1)

    def _column_by_column(self, z: Array, context: Array) -> tuple[Array, Array]:
        order, size = jnp.asarray(self.order), self.transformer.size
        z = jnp.take(z, order, axis=-1)
        ring = None if self.periodic is None else jnp.asarray(self.periodic)[order]
        kernels, biases = self._weights()

        def column(x: Array, index: Array) -> tuple[Array, Array]:
            hidden = self._hidden(x, context, ring)
            kernel = jax.lax.dynamic_slice_in_dim(kernels[-1], index * size, size, axis=1)
            bias = jax.lax.dynamic_slice_in_dim(biases[-1], index * size, size)
            with third_party_promotion():
                params = (hidden @ kernel + bias).astype(z.dtype)
            here = jax.lax.dynamic_index_in_dim(z, index, axis=-1, keepdims=False)
            own = None if ring is None else ring[index]
            value, slope = self.transformer.inverse(params, here, own)
            at = jnp.broadcast_to(jnp.arange(z.shape[-1]) == index, z.shape)
            return jnp.where(at, jnp.broadcast_to(value[..., None], z.shape), x), slope

        values, slopes = jax.lax.scan(column, jnp.zeros_like(z), jnp.arange(z.shape[-1]))
        return jnp.take(values, jnp.argsort(order), axis=-1), jnp.sum(slopes, axis=0)

    def _hidden(self, x: Array, context: Array, ring: Array | None) -> Array:
        """Return what the last layer sees."""
        h = _given(x, context, ring, self.transformer.bound)
        function, (kernels, biases) = activation(self.net.activation), self._weights()
        with third_party_promotion():
            for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
                h = function(h @ kernel + bias)
        return h

    def _weights(self) -> tuple[list[Array], list[Array]]:
        """Return the masked kernels and the biases of the network."""
        kernels = [layer.kernel[...] for layer in self.net.layers]
        masks = made_masks(
            [len(kernel) for kernel in kernels],
            kernels[-1].shape[1] // self.transformer.size,
            kernels[-1].shape[1],
            ring=self.periodic is not None,
        )
        masked = [k * jnp.asarray(m, k.dtype) for k, m in zip(kernels, masks, strict=True)]
        return masked, [layer.bias[...] for layer in self.net.layers]


def made_masks(sizes: list[int], dims: int, last: int, *, ring: bool) -> list[np.ndarray]:
    """Return masks of the kernels that keep parameters of column i off columns i, i + 1, ...

    Args:
        sizes: Inputs of each layer: the first has columns, then context.
        dims: Number of columns.
        last: Number of outputs, ``last / dims`` a column.
        ring: Whether a column enters as two numbers.

    Example:
        >>> [mask.astype(int).tolist() for mask in made_masks([2, 2], 2, 2, ring=False)]
        [[[0, 1], [0, 0]], [[1, 1], [0, 1]]]
    """
    columns = np.tile(np.arange(1, dims + 1), 2 if ring else 1)
    first = max(sizes[0] - len(columns), 0)
    before = np.concatenate([columns, np.zeros(first, int)])[: max(sizes[0], 1)]
    masks = []
    for size in sizes[1:]:
        after = np.arange(size) % dims  # sees columns up to this number; 0: the context alone
        masks.append(after[None, :] >= before[:, None])
        before = after
    outputs = np.repeat(np.arange(1, dims + 1), last // dims)
    masks.append(outputs[None, :] > before[:, None])
    return masks


class LU(eqx.Module):
    r"""A linear mixing of the columns, :math:`y = x L U`, before a layer.

    Attributes:
        matrix: Below the diagonal that of :math:`L`, on and above it of :math:`U`, whose diagonal
            is the exponential of what stands here.
    """

    matrix: Float[Array, "dims dims"]

    def forward(self, x: Array) -> tuple[Array, Array]:
        """Return the values mixed and the log determinant."""
        lower, upper, log_det = self._parts(x.dtype)
        return x @ lower @ upper, jnp.broadcast_to(log_det, x.shape[:-1])

    def inverse(self, z: Array) -> tuple[Array, Array]:
        """Return the values as they were and the log determinant of the way forward."""
        lower, upper, log_det = self._parts(z.dtype)
        one = jnp.eye(len(lower), dtype=z.dtype)
        solve = jax.scipy.linalg.solve_triangular
        back = solve(upper, one, lower=False) @ solve(lower, one, lower=True, unit_diagonal=True)
        return z @ back, jnp.broadcast_to(log_det, z.shape[:-1])

    def _parts(self, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
        matrix = self.matrix.astype(dtype)
        diagonal = jnp.diagonal(matrix)
        lower = jnp.tril(matrix, -1) + jnp.eye(len(matrix), dtype=dtype)
        return lower, jnp.triu(matrix, 1) + jnp.diag(jnp.exp(diagonal)), jnp.sum(diagonal)


class Mixed(eqx.Module):
    """A layer behind a linear mixing."""

    mixing: LU
    layer: Coupling | Autoregressive

    def forward(self, x: Array, context: Array) -> tuple[Array, Array]:
        """Return the values moved and the log determinant."""
        x, first = self.mixing.forward(x)
        x, second = self.layer.forward(x, context)
        return x, first + second

    def inverse(self, z: Array, context: Array) -> tuple[Array, Array]:
        """Return the values moved back and the log determinant of the way forward."""
        z, second = self.layer.inverse(z, context)
        z, first = self.mixing.inverse(z)
        return z, first + second


def _given(kept: Array, context: Array, ring: Array | None, bound: float) -> Array:
    """Return what a conditioner sees: columns (of a circle two numbers) and context."""
    context = jnp.broadcast_to(context, (*kept.shape[:-1], context.shape[-1])).astype(kept.dtype)
    parts = [kept, context]
    if ring is not None:
        flags = jnp.broadcast_to(ring, kept.shape)
        angle = kept * (jnp.pi / bound)
        parts = [jnp.where(flags, jnp.cos(angle), kept), jnp.where(flags, jnp.sin(angle), 0 * kept),
                 context]  # fmt: skip
    given = jnp.concatenate(parts, axis=-1)
    if not given.shape[-1]:  # one column without a condition: the biases do it
        given = jnp.zeros((*kept.shape[:-1], 1), kept.dtype)
    return given
