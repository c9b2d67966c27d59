"""Mini-batches of rows: any PyTree with one leading axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._options import whole_number
from difana._typing import PyTree
from difana.data._order import Order
from difana.data.batches import key_words


class Weighted(NamedTuple):
    """Rows and their weights: what a loss of `difana.train.train_rows` gets as its batch."""

    rows: PyTree
    weights: Float[Array, " rows"]


class RowSampler:
    """Draws a mini-batch of rows, as a function of key and step only.

    Within an epoch of ``n // size`` steps no row is drawn twice. With ``size`` rows or fewer every
    batch is all of them, in their order. Weights, where the rows have some, are not rescaled: a
    loss divides by their sum.

    Args:
        rows: Any PyTree of arrays with one common leading axis; an array alone is one, too.
        key: Key of the permutations.
        size: Rows of a batch.

    Raises:
        InputError: If there are no rows, or the leaves have different numbers of them.
        ConfigError: If ``size`` is no whole number of at least 1.

    Example:
        >>> draw = RowSampler({"x": jnp.arange(6.0), "y": jnp.ones((6, 2))},
        ...                   key=jax.random.key(0), size=2)
        >>> draw(0)["y"].shape, sorted(float(x) for i in range(3) for x in draw(i)["x"])
        ((2, 2), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    """

    def __init__(self, rows: PyTree, *, key: PRNGKeyArray, size: int) -> None:
        """Count the rows."""
        self.length = count_rows(rows)
        self.rows = jax.tree.map(jnp.asarray, rows)
        self.size = min(whole_number("batch_size", size), self.length)
        self._order = Order(key_words(key), size=self.size)

    @property
    def whole(self) -> bool:
        """Whether every batch simply is all rows."""
        return self.size == self.length

    def __call__(self, step: int) -> Any:
        """Return the batch of ``step`` (0, 1, ...)."""
        return self.rows if self.whole else _take(self.rows, self._order(step, events=self.length))


@jax.jit
def _take(rows: PyTree, index: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], rows)


def count_rows(rows: PyTree) -> int:
    """Return the common length of all leaves, or raise ``InputError``.

    Example:
        >>> count_rows({"a": jnp.ones(3), "b": jnp.ones((2, 3))})
        Traceback (most recent call last):
        difana._errors.InputError: rows differ in number: ['a'] has 3, ['b'] has 2
    """
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows):
        name = jax.tree_util.keystr(path) or "the array"
        if not np.ndim(leaf):
            raise InputError(f"rows: {name} is a single number, without an axis of rows")
        sizes[name] = len(leaf)
    if not sizes or not min(sizes.values()):
        raise InputError("no rows: there is nothing to train on")
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise InputError(f"rows differ in number: {text}")
    return next(iter(sizes.values()))
