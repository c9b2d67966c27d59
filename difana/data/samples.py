"""Samples: nominal events and their systematic variations of four kinds.

What tells the kinds apart stands here and nowhere else: a room asks `variants` for the versions of
the events that need a histogram, or a variation for one of its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide
from difana.data.events import Events
from difana.data.inputs import Given, moved

_LEAST = 1e-3  # factors of a variation below this, also negative ones, have no useful logarithm

Move = Callable[[Given, Array], Given]
"""Inputs and nuisance parameter in standard deviations -> inputs there."""


class Variant(NamedTuple):
    """One version of the events of a sample that has a histogram of its own.

    Attributes:
        name: Name of the nuisance parameter; empty for the nominal version.
        alpha: Its value: 1, -1, or 0 for the nominal version.
        events: The events: those of the sample, or others.
        weights: Weights of these events.
        function: What moves their inputs to ``alpha``; None if nothing does.
    """

    name: str
    alpha: float
    events: Events
    weights: Float[Array, " events"]
    function: Move | None = None

    @property
    def inputs(self) -> Given:
        """What the network is given, moved to ``alpha`` when it is asked for."""
        inputs = self.events.inputs
        return inputs if self.function is None else moved(self.function, inputs, self.alpha)

    def sees(self, events: Events) -> bool:
        """Say whether the network sees just these events, so that their scores can be shared."""
        return self.events is events and self.function is None


class AbstractVariation(eqx.Module):
    """A systematic variation of one sample at +1 and -1 standard deviation.

    Attributes:
        name: Name of the nuisance parameter (static); equal names are correlated.
    """

    name: eqx.AbstractVar[str]

    @property
    def moves(self) -> bool:
        """Whether it moves the inputs of the nominal events to any value."""
        return False

    def variants(self, nominal: Events) -> tuple[Variant, Variant] | tuple[()]:
        """Return the versions at +1 and -1, lazily moved; none if only the yield changes."""
        raise NotImplementedError

    def tables(self) -> dict[str, Events]:
        """Return the events of its own by side, ``up`` and ``down``; empty if it has none."""
        return {}

    def factors(self) -> tuple[Array | float, Array | float] | None:
        """Return the factors on the yield at +1 and -1 if it changes nothing else, else None."""
        return None

    def mapped(
        self, events: Callable[[str, Events], Events], weights: Callable[[str, Array], Array]
    ) -> Self:
        """Return the variation with both sides changed.

        Args:
            events: Side and events of its own -> others.
            weights: Side and other weights of the nominal events -> others.
        """
        return self

    def move(self, inputs: Given, alpha: Float[Array, ""]) -> Given:
        """Return the inputs at ``alpha``: as they are, unless it is a transformation."""
        return inputs

    def factor(
        self, weights: Float[Array, " events"], alpha: Float[Array, " events"]
    ) -> Float[Array, " events"] | float:
        """Return the factor on the weights of nominal events, each at its own ``alpha``.

        Raises:
            InputError: If the variation says nothing about single events.
        """
        return 1.0


class ShiftedEvents(AbstractVariation):
    """Separate up and down events, from other files or trees."""

    up: Events
    down: Events
    name: str = eqx.field(static=True)

    def variants(self, nominal: Events) -> tuple[Variant, Variant]:
        """Return both sides."""
        return (
            Variant(self.name, 1.0, self.up, self.up.weights),
            Variant(self.name, -1.0, self.down, self.down.weights),
        )

    def tables(self) -> dict[str, Events]:
        """Return both sides."""
        return {"up": self.up, "down": self.down}

    def mapped(
        self, events: Callable[[str, Events], Events], weights: Callable[[str, Array], Array]
    ) -> Self:
        """Return the variation with other events on both sides."""
        return type(self)(up=events("up", self.up), down=events("down", self.down), name=self.name)

    def factor(
        self, weights: Float[Array, " events"], alpha: Float[Array, " events"]
    ) -> Float[Array, " events"]:
        """Refuse: events of files have no counterpart at other values."""
        raise InputError(
            f"variation '{self.name}' is given as shifted events, which exist at +1 and -1 only; "
            "use cross_entropy(..., variations=True), or a Transformation"
        )


class WeightVariation(AbstractVariation):
    """Other weights for the nominal events."""

    up: Float[Array, " events"]
    down: Float[Array, " events"]
    name: str = eqx.field(static=True)

    def variants(self, nominal: Events) -> tuple[Variant, Variant]:
        """Return the nominal events with both weights."""
        return (
            Variant(self.name, 1.0, nominal, self.up),
            Variant(self.name, -1.0, nominal, self.down),
        )

    def mapped(
        self, events: Callable[[str, Events], Events], weights: Callable[[str, Array], Array]
    ) -> Self:
        """Return the variation with other weights on both sides."""
        return type(self)(
            up=weights("up", self.up), down=weights("down", self.down), name=self.name
        )

    def factor(
        self, weights: Float[Array, " events"], alpha: Float[Array, " events"]
    ) -> Float[Array, " events"]:
        """Return the ratio of the weights to the power of ``alpha``, event by event."""
        up, down = (safe_divide(x, weights, fill=1.0) for x in (self.up, self.down))
        return _power(up, down, alpha)


class Transformation(AbstractVariation):
    """An exact transformation of the inputs, a function of the nuisance parameter.

    ``function(inputs, alpha)`` returns the inputs at ``alpha`` standard deviations:
    ``Events.inputs``, the features or, where there are particles, `Inputs`, whose constituents it
    may move. ``function(inputs, 0)`` must be the identity. It is applied inside the graph.
    """

    function: Move = eqx.field(static=True)
    name: str = eqx.field(static=True)

    @property
    def moves(self) -> bool:
        """True."""
        return True

    def variants(self, nominal: Events) -> tuple[Variant, Variant]:
        """Return the nominal events, to be moved up and down."""
        return (
            Variant(self.name, 1.0, nominal, nominal.weights, self.function),
            Variant(self.name, -1.0, nominal, nominal.weights, self.function),
        )

    def move(self, inputs: Given, alpha: Float[Array, ""]) -> Given:
        """Return the inputs at ``alpha``."""
        return moved(self.function, inputs, alpha)


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

    def variants(self, nominal: Events) -> tuple[()]:
        """Return nothing: the shape stays."""
        return ()

    def factors(self) -> tuple[Array | float, Array | float]:
        """Return both factors."""
        return self.up, self.down

    def factor(
        self, weights: Float[Array, " events"], alpha: Float[Array, " events"]
    ) -> Float[Array, " events"]:
        """Return ``up^alpha``, or ``down^-alpha`` for negative values."""
        return _power(self.up, self.down, alpha)


def _power(up: Array, down: Array, alpha: Array) -> Array:
    """Return up^alpha and down^-alpha; factors below ``_LEAST`` count as that."""
    rise, fall = jnp.log(jnp.maximum(up, _LEAST)), jnp.log(jnp.maximum(down, _LEAST))
    logs = jnp.where(alpha > 0, rise, -fall)
    return jnp.exp(alpha * logs).astype(alpha.dtype)


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


def nominal_samples(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the samples without their variations.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Normalisation
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2))
        >>> norm = Normalisation(up=1.1, down=0.9, name="norm")
        >>> nominal_samples([Sample(events, (norm,), name="b")])[0].variations
        ()
    """
    return tuple(Sample(s.nominal, name=s.name, normfactors=s.normfactors) for s in samples)


def variants(sample: Sample) -> tuple[Variant, ...]:
    """Return all versions of the events that have a histogram of their own, in a fixed order.

    The nominal one first, then up and down of every variation of shape, in the order of the
    variations: the rows of ``TemplateSums.contents``. Normalisations have none.

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.ones((3, 1)), jnp.ones(3))
        >>> shift = Transformation(function=lambda x, alpha: x + alpha, name="shift")
        >>> heavier = WeightVariation(up=jnp.full(3, 1.5), down=jnp.full(3, 0.5), name="weight")
        >>> [(v.name, float(v.inputs[0, 0]), float(v.weights[0]))
        ...  for v in variants(Sample(events, (shift, heavier), name="s"))]
        [('', 1.0, 1.0), ('shift', 2.0, 1.0), ('shift', 0.0, 1.0), ('weight', 1.0, 1.5), \
('weight', 1.0, 0.5)]
    """
    nominal = sample.nominal
    own = (v for variation in sample.variations for v in variation.variants(nominal))
    return (Variant("", 0.0, nominal, nominal.weights), *own)


class HasFactors(Protocol):
    """A sample, or what became of one: an observed sample, a template."""

    @property
    def normfactors(self) -> tuple[str, ...]:
        """Names of the free factors on the yield."""
        raise NotImplementedError


def is_signal(part: HasFactors, poi: str | Sequence[str]) -> bool:
    """Say whether the parameter of interest, or one of several, multiplies a sample or a template.

    Example:
        >>> import jax.numpy as jnp
        >>> is_signal(Sample(Events(jnp.ones((3, 1)), jnp.ones(3)), name="b"), "mu")
        False
    """
    names = (poi,) if isinstance(poi, str) else poi
    return any(name in part.normfactors for name in names)
