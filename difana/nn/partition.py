"""Split a network into what is trained and what is not."""

from __future__ import annotations

from typing import TypeVar

import equinox as eqx
import jax

from difana.nn.standardised import Standardised

T = TypeVar("T")


def _trainable(node: object) -> object:
    if isinstance(node, Standardised):
        spec = jax.tree.map(lambda _: False, node)
        inner = jax.tree.map(_trainable, node.net, is_leaf=lambda n: isinstance(n, Standardised))
        return eqx.tree_at(lambda module: module.net, spec, inner, is_leaf=lambda n: n is None)
    return eqx.is_inexact_array(node)


def partition(net: T) -> tuple[T, T]:
    """Split a network into its trainable weights and all the rest.

    The weights are the inexact arrays, without the constants of ``Standardised``, which weight
    decay would otherwise pull towards zero. ``eqx.combine(weights, rest)`` is the network again.

    Args:
        net: Any callable PyTree.

    Returns:
        Two PyTrees of the structure of ``net``, each with None where the other has a leaf.

    Example:
        >>> import jax, numpy as np
        >>> from difana.nn import MLP
        >>> net = Standardised(MLP(2, [], key=jax.random.key(0)), np.zeros(2), np.ones(2))
        >>> weights, rest = partition(net)
        >>> len(jax.tree.leaves(weights)), len(jax.tree.leaves(rest))
        (2, 2)
    """
    spec = jax.tree.map(_trainable, net, is_leaf=lambda node: isinstance(node, Standardised))
    return eqx.partition(net, spec)
