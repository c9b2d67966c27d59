"""Weighted binary cross-entropy between signal and background."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample, is_signal, nominal_samples
from difana.likelihood import all_scores
from difana.losses.classify._entropy import balanced_entropy
from difana.losses.step import Step


def cross_entropy(
    net: Network,
    batch: Sequence[Sample],
    step: Step | None = None,
    *,
    poi: str | Sequence[str] = "mu",
    variations: bool = False,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the binary cross-entropy of the first observable taken as a logit.

    .. math:: L = \tfrac12\Big[\frac{\sum_s w\,\ln(1+e^{-f})}{\sum_s w}
              + \frac{\sum_b w\,\ln(1+e^{f})}{\sum_b w}\Big]

    Samples scaled by ``poi`` are signal, the others background; both classes count the same.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        batch: Samples that stand for the full yields.
        step: Not used: for ``train.fit(cross_entropy, ...)``.
        poi: Free factor that marks the signal.
        variations: Send the systematic variations through the network, too, and average over
            them (data augmentation).

    Returns:
        The cross-entropy, and ``{"value"}``.

    Raises:
        InputError: If there is no signal or no background.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> events = Events(jnp.zeros((4, 1)), jnp.ones(4))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)), Sample(events, name="b"))
        >>> round(float(cross_entropy(lambda x: x, batch)[0]), 4)  # ln 2
        0.6931
    """
    labels = [is_signal(sample, poi) for sample in batch]
    if not any(labels) or all(labels):
        raise InputError(
            f"cross-entropy needs signal (samples with the free factor '{poi}') and background; "
            f"got {[sample.name for sample in batch]}"
        )
    if not variations:
        batch = nominal_samples(batch)
    scores = all_scores(net, batch)
    value = balanced_entropy(
        (label, row.weights, x) for own, label in zip(scores, labels, strict=True) for row, x in own
    )
    return value, {"value": value}
