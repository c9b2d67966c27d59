"""An ensemble: the mean of the outputs of networks."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._typing import Network, PyTree


class MeanOf(eqx.Module):
    r"""The mean of the outputs of networks, :math:`\frac1n \sum_i f_i(x)`.

    Attributes:
        nets: The networks.

    Example:
        >>> mean = MeanOf((lambda x: x, lambda x: 3 * x))
        >>> mean(jnp.ones((2, 1))).tolist()
        [[2.0], [2.0]]
    """

    nets: tuple[Network, ...]

    def __call__(self, inputs: PyTree) -> Float[Array, "events outputs"]:
        """Return the mean."""
        return jnp.mean(jnp.stack([net(inputs) for net in self.nets]), axis=0)
