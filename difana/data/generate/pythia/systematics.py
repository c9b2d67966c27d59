"""True systematics of measured particles: scales and lost tracks, functions of a nuisance."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana.data.generate.pythia.detector import CHARGE, D0, DZ, MASS, PHI, PT, TYPE, checked
from difana.data.generate.pythia.record import NAMES
from difana.data.inputs import Given, Inputs
from difana.data.samples import Transformation

Kind = Literal["all", "charged", "photon", "neutral_hadron"]


@dataclasses.dataclass(frozen=True)
class ConstituentScale:
    r"""A common scale of the momenta of some constituents, :math:`p \to (1 + \alpha s)\,p`.

    Attributes:
        size: The uncertainty :math:`s`.
        kind: Which constituents; of all of them it is the scale of the jets.

    Example:
        >>> x = jnp.array([[[10.0, 0, 0, 0, 0, 2, 0, 0], [10.0, 0, 0, 0, 1, 0, 0, 0]]])
        >>> inputs = Inputs(jnp.zeros((1, 0)), x, jnp.ones((1, 2), bool))
        >>> ConstituentScale(0.05, "photon")(inputs, 1.0).particles[0, :, 0].tolist()
        [10.5, 10.0]
    """

    size: float
    kind: Kind = "all"

    def __call__(self, inputs: Given, alpha: Float[Array, ""] | float) -> Inputs:
        """Return the particles at ``alpha`` standard deviations."""
        given = checked(inputs)
        x = given.particles
        if self.kind == "all":
            chosen = jnp.ones(x.shape[:-1], bool)
        elif self.kind == "charged":
            chosen = x[..., CHARGE] != 0
        else:
            chosen = (x[..., CHARGE] == 0) & (x[..., TYPE] == NAMES[self.kind])
        factor = jnp.where(chosen, 1 + self.size * jnp.asarray(alpha, x.dtype), 1.0)
        moved = x.at[..., PT].multiply(factor).at[..., MASS].multiply(factor)
        return Inputs(given.features, moved, given.mask)


@dataclasses.dataclass(frozen=True)
class TrackingEfficiency:
    r"""Tracks that are lost with probability :math:`s|\alpha|`; they become neutral deposits.

    There are no tracks to be found in addition, so both signs lose some: with :math:`\alpha < 0`
    the effect is that of a higher efficiency to first order only in the templates, where the
    deviation is reflected. Which tracks are lost follows from a fixed pseudo-random number of each,
    made from its azimuth, so that neither batches nor other samples change it.

    Attributes:
        size: The uncertainty :math:`s`.

    Example:
        >>> x = jnp.zeros((1, 1000, 8)).at[..., 4].set(1.0).at[..., 2].set(jnp.arange(1000) / 999)
        >>> inputs = Inputs(jnp.zeros((1, 0)), x, jnp.ones((1, 1000), bool))
        >>> lost = 1 - TrackingEfficiency(0.03)(inputs, 1.0).particles[..., 4].mean()
        >>> 0.02 < float(lost) < 0.04
        True
    """

    size: float

    def __call__(self, inputs: Given, alpha: Float[Array, ""] | float) -> Inputs:
        """Return the particles at ``alpha`` standard deviations."""
        given = checked(inputs)
        x = given.particles
        charge = x[..., CHARGE]
        lost = (charge != 0) & (
            fixed_uniform(x[..., PHI]) < self.size * jnp.abs(jnp.asarray(alpha, x.dtype))
        )
        keeps = jnp.where(lost, 0.0, 1.0).astype(x.dtype)
        kind = jnp.where(
            x[..., TYPE] == NAMES["electron"], NAMES["photon"], NAMES["neutral_hadron"]
        )
        moved = x.at[..., TYPE].set(jnp.where(lost, kind, x[..., TYPE]).astype(x.dtype))
        for channel in (CHARGE, MASS, D0, DZ):
            moved = moved.at[..., channel].multiply(keeps)
        return Inputs(given.features, moved, given.mask)


def fixed_uniform(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return a pseudo-random number between 0 and 1 that only depends on the bits of a value.

    Example:
        >>> u = fixed_uniform(jnp.linspace(0.0, 1.0, 10_000))
        >>> abs(float(u.mean()) - 0.5) < 0.02
        True
    """
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # lowbias32 of C. Wellons
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits = bits ^ (bits >> 16)
    return (bits >> 8).astype(values.dtype) / 2**24


def jet_systematics(
    *, scale: float = 0.05, photons: float = 0.01, neutral: float = 0.03, tracking: float = 0.03
) -> tuple[Transformation, ...]:
    """Return the systematic variations of measured jets, for `Sample`.

    Args:
        scale: Of all constituents.
        photons: Of photons.
        neutral: Of neutral hadrons.
        tracking: Of the tracking efficiency.

    Example:
        >>> [variation.name for variation in jet_systematics()]
        ['constituent_scale', 'photon_scale', 'neutral_scale', 'tracking']
    """
    return (
        Transformation(function=ConstituentScale(scale), name="constituent_scale"),
        Transformation(function=ConstituentScale(photons, "photon"), name="photon_scale"),
        Transformation(function=ConstituentScale(neutral, "neutral_hadron"), name="neutral_scale"),
        Transformation(function=TrackingEfficiency(tracking), name="tracking"),
    )
