"""Exact transformations of the inputs, written as expressions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError, nearest
from difana.data.expressions import Expression
from difana.data.samples import Transformation

ALPHA = "alpha"
"""Name of the nuisance parameter inside the expressions."""


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """A function of features and nuisance parameter; equal ones hash equal, so that jit caches.

    Attributes:
        assignments: Pairs of column name and expression of the original columns and ``alpha``.
        columns: Names of the features.

    Example:
        >>> import jax.numpy as jnp
        >>> rewrite = Rewrite((("m", "m * (1 + 0.5 * alpha)"),), ("m", "eta"))
        >>> rewrite(jnp.array([[100.0, 2.0]]), 1.0).tolist()
        [[150.0, 2.0]]
    """

    assignments: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]

    def __call__(
        self, features: Float[Array, "*events features"], alpha: Float[Array, "..."] | float
    ) -> Float[Array, "*events features"]:
        """Return the features at ``alpha`` standard deviations."""
        features = jnp.asarray(features)
        scope = {name: features[..., i] for i, name in enumerate(self.columns)}
        scope[ALPHA] = jnp.asarray(alpha, features.dtype)
        shape = features.shape[:-1]
        changed = {
            name: jnp.broadcast_to(Expression.of(text, scope).evaluate(scope, jnp), shape)
            for name, text in self.assignments
        }
        return jnp.stack(
            [jnp.asarray(changed.get(c, scope[c]), features.dtype) for c in self.columns], axis=-1
        )


def transformation(
    name: str, assignments: Mapping[str, str], columns: Sequence[str]
) -> Transformation:
    """Return an exact transformation of the inputs from expressions.

    Each expression gives a column as a function of the original columns and of ``alpha``, the
    nuisance parameter in standard deviations; at ``alpha = 0`` it must be the column itself.

    Args:
        name: Name of the nuisance parameter.
        assignments: New value by column, e.g. ``{"mass": "mass * (1 + 0.03 * alpha)"}``.
        columns: Names of all features, in their order.

    Returns:
        The variation, usable inside ``jit`` and ``grad``.

    Raises:
        InputError: If a column or name is unknown, or the expression is not the identity at 0.

    Example:
        >>> scale = transformation("scale", {"m": "m * (1 + 0.03 * alpha)"}, ["m", "eta"])
        >>> scale == transformation("scale", {"m": "m * (1 + 0.03 * alpha)"}, ["m", "eta"])
        True
    """
    columns = tuple(columns)
    if not assignments:
        raise InputError(f"transformation '{name}' changes no column")
    if ALPHA in columns:
        raise InputError(f"transformation '{name}': rename the column '{ALPHA}', which is taken")
    for column, text in assignments.items():
        where = f"transformation '{name}'"
        if column not in columns:
            raise InputError(
                f"{where}: no column '{column}' among {list(columns)}.{nearest(column, columns)}"
            )
        for used in Expression.of(text, frozenset(columns)).names:
            if used != ALPHA and used not in columns:
                raise InputError(
                    f"{where}, '{column}: {text}': no column '{used}' among {list(columns)}."
                    f"{nearest(used, (*columns, ALPHA))}"
                )
    rewrite = Rewrite(tuple(sorted(assignments.items())), columns)
    _require_identity(rewrite, name)
    return Transformation(function=rewrite, name=name)


def _require_identity(rewrite: Rewrite, name: str) -> None:
    """Check ``function(features, 0) == features`` at a few points."""
    rng = np.random.default_rng(0)
    for low, high in ((0.1, 1.0), (1.0, 100.0), (-3.0, 3.0)):
        points = rng.uniform(low, high, (16, len(rewrite.columns)))
        columns = dict(zip(rewrite.columns, points.T, strict=True))
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
