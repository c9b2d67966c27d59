"""Exact transformations of the inputs, written as expressions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError, nearest
from difana.data.expressions import Expression
from difana.data.inputs import Given, Inputs, features_of
from difana.data.samples import Transformation

ALPHA = "alpha"
"""Name of the nuisance parameter inside the expressions."""


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """A function of inputs and nuisance parameter; equal ones hash equal, so that jit caches.

    Attributes:
        assignments: Pairs of column (or channel) and expression of the original ones and ``alpha``.
        columns: Names of the features.
        particles: Names of the particle channels.

    Example:
        >>> import jax.numpy as jnp
        >>> rewrite = Rewrite((("m", "m * (1 + 0.5 * alpha)"),), ("m", "eta"))
        >>> rewrite(jnp.array([[100.0, 2.0]]), 1.0).tolist()
        [[150.0, 2.0]]
        >>> rewrite = Rewrite((("pt", "pt + alpha * m"),), ("m",), ("pt",))
        >>> mask = jnp.array([[True, False]])
        >>> inputs = Inputs(jnp.array([[10.0]]), jnp.array([[[2.0], [0.0]]]), mask)
        >>> rewrite(inputs, 1.0).particles.ravel().tolist()
        [12.0, 0.0]
    """

    assignments: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    particles: tuple[str, ...] = ()

    def __call__(self, inputs: Given, alpha: Float[Array, "..."] | float) -> Any:
        """Return the inputs at ``alpha`` standard deviations."""
        features = jnp.asarray(features_of(inputs))
        scope = {name: features[..., i] for i, name in enumerate(self.columns)}
        scope[ALPHA] = jnp.asarray(alpha, features.dtype)
        moved = self._changed(features, self.columns, scope)
        if not isinstance(inputs, Inputs):
            return moved
        # an ordinary number in the padding: a logarithm of 0 there would spoil derivatives
        real = jnp.where(inputs.mask[..., None], inputs.particles, 1)
        scope = {name: features[..., i, None] for i, name in enumerate(self.columns)}
        scope |= {name: real[..., i] for i, name in enumerate(self.particles)}
        scope[ALPHA] = jnp.asarray(alpha, real.dtype)
        return Inputs(moved, self._changed(real, self.particles, scope), inputs.mask).cleaned()

    def _changed(self, table: Array, names: tuple[str, ...], scope: dict[str, Array]) -> Array:
        """Return a table with the columns of some names made anew."""
        assignments = [(name, text) for name, text in self.assignments if name in names]
        if not assignments:
            return table
        changed = {
            name: jnp.broadcast_to(
                Expression.of(text, scope).evaluate(scope, jnp), table.shape[:-1]
            )
            for name, text in assignments
        }
        return jnp.stack(
            [jnp.asarray(changed.get(c, scope[c]), table.dtype) for c in names], axis=-1
        )


def transformation(
    name: str,
    assignments: Mapping[str, str],
    columns: Sequence[str],
    *,
    particles: Sequence[str] = (),
) -> Transformation:
    """Return an exact transformation of the inputs from expressions.

    Each expression gives a column as a function of the original columns and of ``alpha``, the
    nuisance parameter in standard deviations; at ``alpha = 0`` it must be the column itself. A
    channel of particles may change with all channels of the particle and the features of its event;
    features made of particles do not follow by themselves.

    Args:
        name: Name of the nuisance parameter.
        assignments: New value by column, e.g. ``{"mass": "mass * (1 + 0.03 * alpha)"}``.
        columns: Names of all features, in their order.
        particles: Names of all particle channels, in their order.

    Returns:
        The variation, usable inside ``jit`` and ``grad``.

    Raises:
        InputError: If a column or name is unknown, or the expression is not the identity at 0.

    Example:
        >>> scale = transformation("scale", {"m": "m * (1 + 0.03 * alpha)"}, ["m", "eta"])
        >>> scale == transformation("scale", {"m": "m * (1 + 0.03 * alpha)"}, ["m", "eta"])
        True
    """
    columns, particles = tuple(columns), tuple(particles)
    known = (*columns, *particles)
    if not assignments:
        raise InputError(f"transformation '{name}' changes no column")
    if ALPHA in known:
        raise InputError(f"transformation '{name}': rename the column '{ALPHA}', which is taken")
    for column, text in assignments.items():
        where = f"transformation '{name}'"
        if column not in known:
            raise InputError(
                f"{where}: no column '{column}' among {list(known)}.{nearest(column, known)}"
            )
        usable = columns if column in columns else known
        for used in Expression.of(text, frozenset(usable)).names:
            if used != ALPHA and used not in usable:
                raise InputError(
                    f"{where}, '{column}: {text}': no column '{used}' among {list(usable)}."
                    f"{nearest(used, (*usable, ALPHA))}"
                )
    rewrite = Rewrite(tuple(sorted(assignments.items())), columns, particles)
    _require_identity(rewrite, name)
    return Transformation(function=rewrite, name=name)


def _require_identity(rewrite: Rewrite, name: str) -> None:
    """Check ``function(features, 0) == features`` at a few points."""
    rng = np.random.default_rng(0)
    for low, high in ((0.1, 1.0), (1.0, 100.0), (-3.0, 3.0)):
        names = (*rewrite.columns, *rewrite.particles)
        points = rng.uniform(low, high, (16, len(names)))
        columns = dict(zip(names, points.T, strict=True))
        scope = {**columns, ALPHA: 0.0}
        for column, text in rewrite.assignments:
            value = np.broadcast_to(Expression.of(text, scope).evaluate(scope, np), 16)
            # outside the domain of a square root, say, nothing can be compared
            wrong = np.isfinite(value) & ~np.isclose(value, columns[column], rtol=1e-6, atol=1e-9)
            if wrong.any():
                raise InputError(
                    f"transformation '{name}': '{column}: {text}' changes '{column}' at alpha = 0 "
                    f"({columns[column][wrong][0]:.4g} -> {value[wrong][0]:.4g}); it must be the "
                    "identity there"
                )
