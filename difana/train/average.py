"""Averages of the weights over the steps of a training."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._typing import PyTree


class Average(eqx.Module):
    r"""The bias-corrected exponential average of trained leaves.

    With the decay :math:`d`, after :math:`n` updates that gave the weights :math:`\theta_i`

    .. math:: \bar\theta_n = \frac{(1 - d) \sum_{i=1}^n d^{n-i}\, \theta_i}{1 - d^n},

    computed as :math:`\bar\theta_n = \bar\theta_{n-1} + (\theta_n - \bar\theta_{n-1}) / s_n` with
    :math:`s_n = d\,s_{n-1} + 1`, in single precision at least. With :math:`d = 1` it is the mean.

    Attributes:
        leaves: The average; before the first update the weights at the start.
        total: :math:`s_n = \sum_{i<n} d^i`, the weight of all updates.

    Example:
        >>> mean = Average.start(jnp.asarray(7.0))
        >>> for weight in (1.0, 4.0):
        ...     mean = mean.updated(jnp.asarray(weight), decay=0.5)
        >>> float(mean.leaves)  # (1 / 4 + 4 / 2) / (1 - 1 / 4)
        3.0
    """

    leaves: PyTree
    total: Float[Array, ""]

    @classmethod
    def start(cls, trained: PyTree) -> Average:
        """Return the average before the first update."""

        def wide(leaf: Array) -> Array:
            return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))

        return cls(jax.tree.map(wide, trained), jnp.zeros(()))

    def updated(self, trained: PyTree, *, decay: float) -> Average:
        """Return the average after an update that gave these leaves."""
        total = decay * self.total + 1
        return Average(moved(self.leaves, trained, share=1 / total), total)

    def like(self, trained: PyTree) -> PyTree:
        """Return the average in the precision of these leaves."""
        return jax.tree.map(lambda a, b: a.astype(b.dtype), self.leaves, trained)


def moved(mean: PyTree, new: PyTree, *, share: Float[Array, ""]) -> PyTree:
    """Return a tree that has gone a share of the way to another.

    Example:
        >>> float(moved(jnp.asarray(1.0), jnp.asarray(3.0), share=jnp.asarray(0.25)))
        1.5
    """

    def one(old: Array, new: Array) -> Array:
        return old + share.astype(jnp.finfo(old.dtype).dtype) * (new.astype(old.dtype) - old)

    return jax.tree.map(one, mean, new)
