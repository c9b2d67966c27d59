"""The exponential average of the weights over the steps of a training."""

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

    computed as :math:`\bar\theta_n = \bar\theta_{n-1} + (1-d)\,(\theta_n - \bar\theta_{n-1}) / s_n`
    with :math:`s_n = d\,s_{n-1} + 1 - d`, in single precision at least.

    Attributes:
        leaves: The average; before the first update the weights at the start.
        share: :math:`s_n = 1 - d^n`.

    Example:
        >>> mean = Average.start(jnp.asarray(7.0))
        >>> for weight in (1.0, 4.0):
        ...     mean = mean.updated(jnp.asarray(weight), decay=0.5)
        >>> float(mean.leaves)  # (1 / 4 + 4 / 2) / (1 - 1 / 4)
        3.0
    """

    leaves: PyTree
    share: Float[Array, ""]

    @classmethod
    def start(cls, trained: PyTree) -> Average:
        """Return the average before the first update."""

        def wide(leaf: Array) -> Array:
            return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))

        return cls(jax.tree.map(wide, trained), jnp.zeros(()))

    def updated(self, trained: PyTree, *, decay: float) -> Average:
        """Return the average after an update that gave these leaves."""
        share = decay * self.share + (1 - decay)
        weight = (1 - decay) / share

        def mean(old: Array, new: Array) -> Array:
            return old + weight.astype(jnp.finfo(old.dtype).dtype) * (new.astype(old.dtype) - old)

        return Average(jax.tree.map(mean, self.leaves, trained), share)
