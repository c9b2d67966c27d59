"""Events at random values of their nuisance parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana.data import AbstractVariation, Given, Sample, features_of, is_signal

Draw = Callable[[PRNGKeyArray, tuple[int, ...]], Float[Array, "events nuisances"]]
"""``draw(key, shape)``: nuisance values in standard deviations; ``jax.random.normal`` does."""


class VariedEvents(eqx.Module):
    """Events of one sample, each at nuisance values of its own.

    Attributes:
        inputs: What the network is given there.
        weights: Weights there, ``[events]``.
        nuisances: The values in standard deviations, ``[events, nuisances]``.
        signal: Whether the sample is signal (static).
    """

    inputs: Given
    weights: Float[Array, " events"]
    nuisances: Float[Array, "events nuisances"]
    signal: bool = eqx.field(static=True)


def nuisance_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the names of all nuisance parameters, each once, in order of appearance.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Transformation
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
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Transformation
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2))
        >>> shift = Transformation(function=lambda x, alpha: x + 0.1 * alpha, name="shift")
        >>> batch = [Sample(events, name="s", normfactors=("mu",)), Sample(events, (shift,), name="b")]
        >>> s, b = at_random_nuisances(batch, key=jax.random.key(0))
        >>> bool(jnp.allclose(b.inputs, 1 + 0.1 * b.nuisances)), s.inputs.tolist()
        (True, [[1.0], [1.0]])
    """  # noqa: E501
    labels = [is_signal(sample, poi) for sample in batch]
    if not any(labels) or all(labels):
        raise InputError(
            f"needs signal (samples with the free factor '{poi}') and background; got "
            f"{[sample.name for sample in batch]}"
        )
    names = nuisance_names(batch)
    found = []
    for sample, own, label in zip(batch, jax.random.split(key, len(batch)), labels, strict=True):
        inputs, weights = sample.nominal.inputs, sample.nominal.weights
        values = draw(own, (len(sample.nominal), len(names))).astype(features_of(inputs).dtype)
        for variation in sample.variations:
            alpha = values[:, names.index(variation.name)]
            if variation.moves:
                inputs = _moved(variation, inputs, alpha)
                continue
            try:
                weights = weights * variation.factor(sample.nominal.weights, alpha)
            except InputError as error:
                raise InputError(f"sample '{sample.name}': {error}") from error
        found.append(VariedEvents(inputs, weights, values, label))
    return found


def _moved(variation: AbstractVariation, inputs: Given, alpha: Array) -> Given:
    """Move the inputs with a value of its own for each event."""

    def one(own: Given, value: Array) -> Given:
        single = jax.tree.map(lambda leaf: leaf[None], own)
        return jax.tree.map(lambda leaf: leaf[0], variation.move(single, value))

    return jax.vmap(one)(inputs, alpha)
