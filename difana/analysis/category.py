"""Categories that one network defines: each event goes to that of its largest output."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._typing import Network, PyTree
from difana.hist import Shares, soft_shares


class Category(eqx.Module):
    r"""One of the classes of a network, and its observable.

    With the outputs :math:`z_k`, whose softmax are the probabilities of the classes, an event is in
    category k if :math:`z_k` is the largest; its observable there are the logarithms of the odds

    .. math:: x_k = z_k - \ln\sum_{j \ne k} e^{z_j}.

    Attributes:
        net: The network, ``net(inputs) -> [events, classes]``.
        index: Number of the category (static).
        classes: Number of classes (static).

    Example:
        >>> net = Category(lambda x: x, 0, 2)
        >>> net(jnp.array([[2.0, 1.0], [0.0, 3.0]])).tolist()
        [[1.0, 1.0], [-3.0, 0.0]]
    """

    net: Network
    index: int = eqx.field(static=True)
    classes: int = eqx.field(static=True)

    def __call__(self, inputs: PyTree) -> Float[Array, "events 2"]:
        """Return the observable, and 1 for events in the category, 0 for others."""
        logits = self.net(inputs)
        own, others = logits[:, self.index], jnp.delete(logits, self.index, axis=1)
        x = own - jax.nn.logsumexp(others, axis=1)
        inside = jnp.argmax(logits, axis=1) == self.index
        return jnp.stack([x, inside.astype(x.dtype)], axis=1)


def category_shares(
    index: int,
    edges: Float[Array, " edges"],
    *,
    bandwidth: Float[Array, ""] | float | None,
    temperature: float = 1.0,
) -> Shares:
    r"""Return the binning of one category: softmax times the soft bins of its observable.

    Args:
        index: Number of the category.
        edges: Edges of its observable.
        bandwidth: Width of the kernel; None for hard bins and the hard category.
        temperature: Temperature of the softmax.

    Returns:
        A function of the outputs ``[events, classes]``, whose shares of an event sum to its share
        in the category, for ``edges=`` of ``channel_from_events``.

    Example:
        >>> shares = category_shares(0, jnp.array([-5.0, 0.0, 5.0]), bandwidth=None)
        >>> shares(jnp.array([[2.0, 1.0], [0.0, 3.0]])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """

    def shares(logits: Array) -> Array:
        x, inside = Category(lambda z: z, index, logits.shape[1])(logits).T
        if bandwidth is None:
            part = inside
        else:
            part = jax.nn.softmax(logits / temperature, axis=1)[:, index]
        width = 0.0 if bandwidth is None else bandwidth
        return part[:, None] * soft_shares(x, edges, bandwidth=width)

    return shares
