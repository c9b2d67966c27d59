"""Uncertainty-aware networks: cross-entropy of f(x, nu)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float

from difana._typing import Network
from difana.data import Sample, with_columns
from difana.losses.classify.augmented import entropy_of, logits_of
from difana.losses.classify.random_nuisances import Draw, at_random_nuisances
from difana.losses.step import Step


def aware(
    net: Network,
    batch: Sequence[Sample],
    step: Step,
    *,
    draw: Draw = jax.random.normal,
    poi: str = "mu",
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the cross-entropy of a network that is told the nuisance values of each event.

    It learns :math:`\ln p_s(x|\nu) - \ln p_b(x|\nu)` for every :math:`\nu`. In the likelihood
    the network stands at the value that is being tested, ``difana.nn.Parametrised(net, nu)``, and
    the templates *and the data* are those of that network: see
    ``difana.analysis.nuisance_scan``.

    Args:
        net: Any callable PyTree ``[events, features + nuisances] -> [events, observables]``; the
            nuisances in the order of :func:`nuisance_names`, in standard deviations.
        batch: Samples that stand for the full yields.
        step: The step, whose key is used; outside of a training ``Step.at(key=...)``.
        draw: Draws the values; the prior by default. A wider one teaches the tails.
        poi: Free factor that marks the signal.

    Returns:
        The cross-entropy, and ``{"value"}``.

    Raises:
        InputError: As :func:`at_random_nuisances`.

    References:
        A. Ghosh, B. Nachman, D. Whiteson, arXiv:2105.08742.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> events = Events(jnp.zeros((4, 1)), jnp.ones(4))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)), Sample(events, name="b"))
        >>> value, _ = aware(lambda x: x, batch, Step.at(key=jax.random.key(0)))
        >>> round(float(value), 4)  # ln 2
        0.6931
    """
    blocks = at_random_nuisances(batch, key=step.key, draw=draw, poi=poi)
    inputs = [with_columns(block.inputs, block.nuisances) for block in blocks]
    value = entropy_of(blocks, logits_of(net, inputs))
    return value, {"value": value}
