"""Events at random values of their nuisance parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._numerics import safe_divide
from difana.data import Normalisation, Sample, ShiftedEvents, Transformation, WeightVariation

_LEAST = 1e-3  # factors of a variation below this, also negative ones, have no useful logarithm

Draw = Callable[[PRNGKeyArray, tuple[int, ...]], Float[Array, "events nuisances"]]
"""``draw(key, shape)``: nuisance values in standard deviations; ``jax.random.normal`` does."""


class VariedEvents(eqx.Module):
    """Events of one sample, each at nuisance values of its own.

    Attributes:
        features: Features there, ``[events, features]``.
        weights: Weights there, ``[events]``.
        nuisances: The values in standard deviations, ``[events, nuisances]``.
        signal: Whether the sample is signal (static).
    """

    features: Float[Array, "events features"]
    weights: Float[Array, " events"]
    nuisances: Float[Array, "events nuisances"]
    signal: bool = eqx.field(static=True)


def nuisance_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the names of all nuisance parameters, each once, in order of appearance.

    Example:
        >>> from difana.data import Events
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2))
        >>> shift = Transformation(function=lambda x, alpha: x + alpha, name="shift")
        >>> nuisance_names([Sample(events, (shift,), name="b"), Sample(events, name="s")])
        ('shift',)
    """
    return tuple(dict.fromkeys(v.name for sample in samples for v in sample.variations))


def at_random_nuisances(
    batch: Sequence[Sample],
    *,
    key: PRNGKeyArray,
    draw: Draw = jax.random.normal,
    poi: str = "mu",
) -> list[VariedEvents]:
    r"""Return the events of each sample at random values of all nuisance parameters.

    Every event gets values of its own. Transformations are applied exactly, one after the other;
    normalisations multiply the weight by :math:`u^\alpha` (:math:`d^{-\alpha}` for negative
    values) with the factors u and d at one standard deviation, weight variations likewise event
    by event. A nuisance that does not touch a sample gets random values there, too: otherwise a
    network that sees them would read the class from them.

    Args:
        batch: Samples with their variations.
        key: Random key.
        draw: Draws the values; the prior by default.
        poi: Free factor that marks the signal.

    Raises:
        InputError: If there is no signal or no background, or a sample has shifted events: those
            of files have no counterpart at other values.

    Example:
        >>> from difana.data import Events
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2))
        >>> shift = Transformation(function=lambda x, alpha: x + 0.1 * alpha, name="shift")
        >>> batch = [Sample(events, name="s", normfactors=("mu",)), Sample(events, (shift,), name="b")]
        >>> s, b = at_random_nuisances(batch, key=jax.random.key(0))
        >>> bool(jnp.allclose(b.features, 1 + 0.1 * b.nuisances)), s.features.tolist()
        (True, [[1.0], [1.0]])
    """  # noqa: E501
    labels = [poi in sample.normfactors for sample in batch]
    if not any(labels) or all(labels):
        raise InputError(
            f"needs signal (samples with the free factor '{poi}') and background; got "
            f"{[sample.name for sample in batch]}"
        )
    names = nuisance_names(batch)
    found = []
    for sample, own, label in zip(batch, jax.random.split(key, len(batch)), labels, strict=True):
        features, weights = sample.nominal.features, sample.nominal.weights
        values = draw(own, (len(sample.nominal), len(names))).astype(features.dtype)
        for variation in sample.variations:
            alpha = values[:, names.index(variation.name)]
            if isinstance(variation, Transformation):
                features = _transformed(variation, features, alpha)
            elif isinstance(variation, Normalisation):
                weights = weights * _power(variation.up, variation.down, alpha)
            elif isinstance(variation, WeightVariation):
                nominal = sample.nominal.weights
                up, down = (
                    safe_divide(x, nominal, fill=1.0) for x in (variation.up, variation.down)
                )
                weights = weights * _power(up, down, alpha)
            elif isinstance(variation, ShiftedEvents):
                raise InputError(
                    f"sample '{sample.name}': variation '{variation.name}' is given as shifted "
                    "events, which exist at +1 and -1 only; use cross_entropy(..., "
                    "variations=True), or a Transformation"
                )
        found.append(VariedEvents(features, weights, values, label))
    return found


def _transformed(variation: Transformation, features: Array, alpha: Array) -> Array:
    """Apply a transformation with a value of its own for each event."""
    function = variation.function
    return jax.vmap(lambda x, a: function(x[None], a)[0])(features, alpha)


def _power(up: Array, down: Array, alpha: Array) -> Array:
    """Return up^alpha and down^-alpha; factors below ``_LEAST`` count as that."""
    rise, fall = jnp.log(jnp.maximum(up, _LEAST)), jnp.log(jnp.maximum(down, _LEAST))
    logs = jnp.where(alpha > 0, rise, -fall)
    return jnp.exp(alpha * logs).astype(alpha.dtype)
