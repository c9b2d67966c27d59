"""Parametrised networks: cross-entropy of f(x, theta) for a grid of signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from difana._errors import InputError, nearest
from difana._typing import Network
from difana.data import Sample, is_signal, with_columns
from difana.losses.classify._entropy import balanced_entropy
from difana.losses.classify.augmented import logits_of
from difana.losses.step import Step


def parametrised(
    net: Network,
    batch: Sequence[Sample],
    step: Step,
    *,
    theta: Mapping[str, Float[ArrayLike, " params"]],
    poi: str = "mu",
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the cross-entropy of a network that is told the signal hypothesis.

    A signal event comes with the parameters of its sample, a background event with those of a
    signal sample drawn at random; all signal samples count the same. The optimum is the
    classifier of each signal, and the network interpolates between them.

    Args:
        net: Any callable PyTree ``[events, features + params] -> [events, observables]``.
        batch: Samples that stand for the full yields; each that ``poi`` scales is one signal.
        step: The step, whose key is used; outside of a training ``Step.at(key=...)``.
        theta: Parameters of each signal sample, by name, of order one.
        poi: Free factor that marks the signal.

    Returns:
        The cross-entropy, and ``{"value"}``.

    Raises:
        InputError: If there is no signal or no background, or a signal has no parameters.

    References:
        P. Baldi et al., arXiv:1601.07913.

    Example:
        >>> from difana.data import Events
        >>> events = Events(jnp.zeros((4, 1)), jnp.ones(4))
        >>> batch = (Sample(events, name="m1", normfactors=("mu",)), Sample(events, name="b"))
        >>> step = Step.at(key=jax.random.key(0))
        >>> value, _ = parametrised(lambda x: 0 * x, batch, step, theta={"m1": [1.0]})
        >>> round(float(value), 4)  # ln 2
        0.6931
    """
    signals = [sample for sample in batch if is_signal(sample, poi)]
    if not signals or len(signals) == len(batch):
        raise InputError(
            f"a parametrised network needs signals (samples with the free factor '{poi}') and "
            f"background; got {[sample.name for sample in batch]}"
        )
    for sample in signals:
        if sample.name not in theta:
            raise InputError(
                f"signal '{sample.name}' has no parameters in theta.{nearest(sample.name, theta)}"
            )
    grid = jnp.stack([jnp.atleast_1d(jnp.asarray(theta[sample.name])) for sample in signals])
    names = [sample.name for sample in signals]
    inputs, weights = [], []
    for sample, own in zip(batch, jax.random.split(step.key, len(batch)), strict=True):
        size, scale = len(sample.nominal), 1.0
        if is_signal(sample, poi):
            values = jnp.broadcast_to(grid[names.index(sample.name)], (size, grid.shape[1]))
            scale = 1.0 / sample.nominal.total()
        else:
            values = grid[jax.random.randint(own, (size,), 0, len(grid))]
        inputs.append(with_columns(sample.nominal.inputs, values))
        weights.append(scale * sample.nominal.weights)
    labels = [is_signal(sample, poi) for sample in batch]
    value = balanced_entropy(zip(labels, weights, logits_of(net, inputs), strict=True))
    return value, {"value": value}
