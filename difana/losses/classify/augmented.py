"""Data augmentation: cross-entropy on events at random nuisance values."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._typing import Network
from difana.data import Given, Sample, joined
from difana.losses.classify._entropy import balanced_entropy
from difana.losses.classify.random_nuisances import Draw, VariedEvents, at_random_nuisances
from difana.losses.step import Step


def augmented(
    net: Network,
    batch: Sequence[Sample],
    step: Step,
    *,
    draw: Draw = jax.random.normal,
    poi: str = "mu",
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the cross-entropy of events whose nuisances are drawn anew.

    The network does not see the values: it learns the classifier of the *marginal* densities
    :math:`\int p(x|\nu)\,\pi(\nu)\,d\nu`.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        batch: Samples that stand for the full yields.
        step: The step, whose key is used; outside of a training ``Step.at(key=...)``.
        draw: Draws the values; the prior by default.
        poi: Free factor that marks the signal.

    Returns:
        The cross-entropy, and ``{"value"}``.

    Raises:
        InputError: As :func:`at_random_nuisances`.

    Example:
        >>> from difana.data import Events
        >>> events = Events(jnp.zeros((4, 1)), jnp.ones(4))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)), Sample(events, name="b"))
        >>> value, _ = augmented(lambda x: x, batch, Step.at(key=jax.random.key(0)))
        >>> round(float(value), 4)  # ln 2
        0.6931
    """
    blocks = at_random_nuisances(batch, key=step.key, draw=draw, poi=poi)
    value = entropy_of(blocks, logits_of(net, [block.inputs for block in blocks]))
    return value, {"value": value}


def logits_of(net: Network, inputs: Sequence[Given]) -> list[Float[Array, " events"]]:
    """Return the first output of each block, all in one pass of the network."""
    ends = [sum(len(x) for x in inputs[: i + 1]) for i in range(len(inputs) - 1)]
    return jnp.split(net(joined(inputs))[:, 0], ends)


def entropy_of(
    blocks: Sequence[VariedEvents], logits: Sequence[Float[Array, " events"]]
) -> Float[Array, ""]:
    """Return the cross-entropy of varied events; both classes count the same."""
    pairs = zip(blocks, logits, strict=True)
    return balanced_entropy((block.signal, block.weights, x) for block, x in pairs)
