"""Events: the frozen table that every room passes on."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from difana._errors import InputError, nearest


class Events(eqx.Module):
    """Events of one sample: features, weights and optional padded particles.

    Attributes:
        features: One row an event, ``[events, features]``.
        weights: Event weights, ``[events]``; negative ones are allowed.
        particles: Optional padded particles, ``[events, particles, channels]``.
        mask: True where a particle is real, ``[events, particles]``.
        columns: Names of the features (static).
        units: Units of the features, in the same order (static); empty strings where unknown.
        particle_columns: Names of the particle channels (static).

    Raises:
        InputError: If a name occurs twice, their number is wrong, or a number is complex.

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.ones((3, 2)), jnp.ones(3), columns=("pt", "eta"))
        >>> len(events), events["pt"].shape
        (3, (3,))
    """

    features: Float[Array, "events features"]
    weights: Float[Array, " events"]
    particles: Float[Array, "events particles channels"] | None = None
    mask: Bool[Array, "events particles"] | None = None
    columns: tuple[str, ...] = eqx.field(static=True, default=())
    units: tuple[str, ...] = eqx.field(static=True, default=())
    particle_columns: tuple[str, ...] = eqx.field(static=True, default=())

    def __check_init__(self) -> None:
        """Refuse names that are not unique, and numbers that are not real."""
        for what in ("columns", "particle_columns"):
            names = getattr(self, what)
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise InputError(f"'{what}' names {repeated} more than once: rename one")
        shape = getattr(self.features, "shape", ())
        if self.columns and len(shape) == 2 and shape[1] != len(self.columns):
            raise InputError(f"{len(self.columns)} column names for {shape[1]} features")
        for what in ("features", "weights", "particles"):
            dtype = getattr(getattr(self, what), "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
                raise InputError(f"{what} are complex ({dtype}): give real numbers, e.g. abs(x)")

    def __len__(self) -> int:
        """Return the number of events."""
        return self.features.shape[0]

    def __getitem__(self, column: str) -> Float[Array, " events"]:
        """Return one feature by its column name.

        Raises:
            InputError: If there is no such column.
        """
        if column not in self.columns:
            raise InputError(
                f"no column '{column}' among {list(self.columns)}.{nearest(column, self.columns)}"
            )
        return self.features[:, self.columns.index(column)]

    def take(self, indices: Array) -> Events:
        """Return the events at ``indices`` (integers, or a boolean mask outside jit)."""
        return jax.tree.map(lambda leaf: leaf[indices], self)

    def with_features(self, features: Float[Array, "events features"]) -> Events:
        """Return the same events with other features."""
        return eqx.tree_at(lambda events: events.features, self, features)

    def with_weights(self, weights: Float[Array, " events"]) -> Events:
        """Return the same events with other weights."""
        return eqx.tree_at(lambda events: events.weights, self, weights)

    def total(self) -> Float[Array, ""]:
        """Return the total yield, the sum of weights."""
        return jnp.sum(self.weights)
