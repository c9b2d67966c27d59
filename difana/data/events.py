"""Events: the frozen table that every room passes on."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from difana._errors import InputError, nearest
from difana.data.inputs import Given, Inputs


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
        InputError: If a name occurs twice, their number is wrong, a number is complex, or the
            shapes of particles and mask do not fit the events.

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
        self._check_particles()
        for what in ("features", "weights", "particles"):
            dtype = getattr(getattr(self, what), "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
                raise InputError(f"{what} are complex ({dtype}): give real numbers, e.g. abs(x)")

    def _check_particles(self) -> None:
        """Refuse particles and masks whose shapes do not fit; other PyTrees may stand in."""
        particles = getattr(self.particles, "shape", None)
        mask = getattr(self.mask, "shape", None)
        if particles is None:
            if mask is not None:
                raise InputError(f"a mask {mask} without particles: give both, or neither")
            return
        events = getattr(self.features, "shape", particles)[:-1]
        if len(particles) != len(events) + 2 or particles[:-2] != events:
            raise InputError(
                f"particles {particles} do not fit {events} events: give [events, particles, "
                "channels]"
            )
        if mask is not None and mask != particles[:-1]:
            raise InputError(f"the mask {mask} does not fit the particles {particles}")
        if self.particle_columns and particles[-1] != len(self.particle_columns):
            raise InputError(
                f"{len(self.particle_columns)} channel names for {particles[-1]} channels"
            )

    @property
    def inputs(self) -> Given:
        """What a network is given: the features, with particles and mask where there are some.

        Padding holds zeros, whatever stands in the events; without a mask, a particle whose
        channels are all zero is padding.

        Example:
            >>> Events(jnp.ones((3, 2)), jnp.ones(3)).inputs.shape
            (3, 2)
            >>> particles = jnp.array([[[1.0], [jnp.nan]]])
            >>> mask = jnp.array([[True, False]])
            >>> events = Events(jnp.ones((1, 2)), jnp.ones(1), particles, mask)
            >>> events.inputs.particles.ravel().tolist()
            [1.0, 0.0]
        """
        if self.particles is None:
            return self.features
        mask = jnp.any(self.particles != 0, axis=-1) if self.mask is None else self.mask
        return Inputs(self.features, self.particles, mask).cleaned()

    def with_inputs(self, inputs: Given) -> Events:
        """Return the same events with other features, and particles where there are some."""
        if not isinstance(inputs, Inputs):
            return self.with_features(inputs)
        return Events(
            inputs.features,
            self.weights,
            inputs.particles,
            inputs.mask,
            columns=self.columns,
            units=self.units,
            particle_columns=self.particle_columns,
        )

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
