"""Samples: nominal events and their systematic variations of four kinds."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import InputError
from difana.data.events import Events


class AbstractVariation(eqx.Module):
    """A systematic variation of one sample at +1 and -1 standard deviation.

    Attributes:
        name: Name of the nuisance parameter (static); equal names are correlated.
    """

    name: eqx.AbstractVar[str]


class ShiftedEvents(AbstractVariation):
    """Separate up and down events, from other files or trees."""

    up: Events
    down: Events
    name: str = eqx.field(static=True)


class WeightVariation(AbstractVariation):
    """Other weights for the nominal events."""

    up: Float[Array, " events"]
    down: Float[Array, " events"]
    name: str = eqx.field(static=True)


class Transformation(AbstractVariation):
    """An exact transformation of the inputs, a function of the nuisance parameter.

    ``function(features, alpha)`` returns the features at ``alpha`` standard deviations;
    ``function(features, 0)`` must be the identity. It is applied inside the graph.
    """

    function: Callable[[Float[Array, "events features"], Array], Array] = eqx.field(static=True)
    name: str = eqx.field(static=True)


class Normalisation(AbstractVariation):
    """A change of the yield: factors ``up`` at +1 and ``down`` at -1 (normsys).

    Raises:
        InputError: Outside jit, if a factor is not finite and positive: no interpolation exists.
    """

    up: Float[Array, ""]
    down: Float[Array, ""]
    name: str = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse factors that leave no yield."""
        for side, factor in (("up", self.up), ("down", self.down)):
            if isinstance(factor, Tracer) or not isinstance(
                factor, int | float | np.ndarray | np.generic | jax.Array
            ):
                continue
            if not bool(np.all(np.isfinite(factor) & (np.asarray(factor) > 0))):
                raise InputError(
                    f"normalisation '{self.name}': the factor {side} is {factor}; both factors must"
                    " be finite and positive (1.1 for +10 %): give smaller variations"
                )


class Sample(eqx.Module):
    """One physics process: nominal events and variations.

    Attributes:
        nominal: The nominal events.
        variations: Systematic variations.
        variance_scale: Factor for sums of squared weights. A mini-batch is rescaled to the full
            yield, which inflates the sum of squared weights; this factor restores the variance
            of the full sample.
        name: Name of the sample (static).
        normfactors: Free factors on the yield, e.g. ``("mu",)`` for the signal (static).

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.ones((3, 1)), jnp.ones(3), columns=("x",))
        >>> shift = Transformation(function=lambda x, alpha: x * (1 + 0.1 * alpha), name="scale")
        >>> sample = Sample(events, (shift,), name="signal", normfactors=("mu",))
        >>> sample.normfactors
        ('mu',)
    """

    nominal: Events
    variations: tuple[AbstractVariation, ...] = ()
    variance_scale: Float[Array, ""] = eqx.field(
        default_factory=lambda: jnp.asarray(1.0), converter=jnp.asarray
    )
    name: str = eqx.field(static=True, kw_only=True)
    normfactors: tuple[str, ...] = eqx.field(static=True, default=(), kw_only=True)
