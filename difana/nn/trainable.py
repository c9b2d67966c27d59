"""Which leaves of a network are trained."""

from __future__ import annotations

import equinox as eqx
import jax
from flax import nnx

from difana._typing import PyTree
from difana.nn.standardised import Standardised

_KEPT = (nnx.BatchStat, nnx.RngState)


def _is_wrapper(node: object) -> bool:
    return isinstance(node, Standardised)


def trainable(net: PyTree) -> PyTree:
    """Return a PyTree of booleans: True for each weight, False for each constant.

    The weights are the inexact arrays, without mean and standard deviation of ``Standardised``,
    which weight decay would otherwise pull towards zero, and without the batch statistics of Flax
    NNX (see ``training_mode``). Give the result to
    ``eqx.partition(net, trainable(net))`` or to ``difana.train.fit(..., trained=trainable(net))``.

    Args:
        net: Any callable PyTree, or a PyTree that holds networks.

    Returns:
        Booleans in the structure of ``net``.

    Example:
        >>> import jax, numpy as np
        >>> from difana.nn import MLP
        >>> net = Standardised(MLP(2, [], key=jax.random.key(0)), np.zeros(2), np.ones(2))
        >>> weights, rest = eqx.partition(net, trainable(net))
        >>> len(jax.tree.leaves(weights)), len(jax.tree.leaves(rest))
        (2, 2)
    """

    def mark(node: PyTree) -> PyTree:
        if isinstance(node, _KEPT):
            return jax.tree.map(lambda _: False, node)
        if _is_wrapper(node):
            constants = jax.tree.map(lambda _: False, node)
            return eqx.tree_at(lambda wrapper: wrapper.net, constants, trainable(node.net))
        return eqx.is_inexact_array(node)

    return jax.tree.map(
        mark, net, is_leaf=lambda node: _is_wrapper(node) or isinstance(node, _KEPT)
    )
