"""Rows of which a ratio is learned: one table, two weights a row."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import PyTree
from difana.data import Events


class RatioRows(NamedTuple):
    """Rows with their weight in the numerator and in the denominator of a ratio.

    A row of one sample only has weight zero in the other; a row of both (a simulated event before
    and after a reweighting) has both, which costs half the rows and less noise.

    Attributes:
        x: What the classifier sees: ``[rows, columns]``, or a PyTree of ``[rows, ...]``.
        above: Weights in the numerator (yield).
        below: Weights in the denominator.
    """

    x: PyTree
    above: Float[Array, " rows"]
    below: Float[Array, " rows"]


def two_samples(numerator: Events, denominator: Events) -> RatioRows:
    """Return the rows of the ratio of two samples; weights of both signs are kept.

    Args:
        numerator: Events above the line.
        denominator: Events below it, with the same features.

    Raises:
        InputError: If the samples have other columns.

    Example:
        >>> one, two = (Events(jnp.ones((n, 2)), jnp.ones(n)) for n in (1, 2))
        >>> two_samples(one, two).above.tolist(), two_samples(one, two).below.tolist()
        ([1.0, 0.0, 0.0], [0.0, 1.0, 1.0])
    """
    first, second = numerator.inputs, denominator.inputs
    shapes = [jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], part) for part in (first, second)]
    if shapes[0] != shapes[1] or numerator.columns != denominator.columns:
        raise InputError(
            f"numerator with rows of shape {shapes[0]} and columns {list(numerator.columns)},"
            f" denominator {shapes[1]} and {list(denominator.columns)}: give the same features"
        )
    x = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), first, second)
    w1, w0 = numerator.weights, denominator.weights
    return RatioRows(
        x,
        jnp.concatenate([w1, jnp.zeros_like(w0)]),
        jnp.concatenate([jnp.zeros_like(w1), w0]),
    )


def checked_rows(rows: RatioRows) -> RatioRows:
    """Return the rows as arrays, or raise ``InputError`` for what makes no sense."""
    x, above, below = rows
    counts = {len(leaf) for leaf in jax.tree.leaves(x)}
    if counts != {len(above)} or len(above) != len(below):
        raise InputError(
            f"{max(counts, default=0)} rows, {len(above)} and {len(below)} weights: give one each"
        )
    if len(above) < 2:
        raise InputError(f"{len(above)} rows: a training with held-out rows needs at least 2")
    parts: dict[str, Any] = {"above": above, "below": below}
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        parts[f"x{jax.tree_util.keystr(path)}"] = leaf
    for name, values in parts.items():
        table = np.asarray(values)
        if np.iscomplexobj(table):
            raise InputError(f"{name}: complex numbers; give real ones")
        bad = ~np.isfinite(table.astype(float)).reshape(len(table), -1).all(axis=1)
        if bad.any():
            raise InputError(
                f"{name} is not finite in {bad.sum()} rows, first in row {int(bad.argmax())}:"
                " select or repair the events"
            )
    return RatioRows(jax.tree.map(jnp.asarray, x), jnp.asarray(above), jnp.asarray(below))


def positive_totals(rows: RatioRows) -> tuple[float, float]:
    """Return the two totals, or raise ``InputError`` if one is not positive."""
    totals = float(jnp.sum(rows.above)), float(jnp.sum(rows.below))
    if not min(totals) > 0:
        raise InputError(
            f"the classes have total weights of {totals[0]:g} and {totals[1]:g}: both must be"
            " positive"
        )
    return totals
