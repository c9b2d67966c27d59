"""Flavour, energy and its quantiles by one network: the losses beside cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from difana.losses.classify.multiclass import multiclass_entropy

QUANTILES = (0.16, 0.84)
"""Levels of the quantiles whose half distance is a resolution."""


def log_cosh(residual: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Return :math:`\ln\cosh u`: a half square near zero, a distance far away.

    Example:
        >>> round(float(log_cosh(jnp.array(100.0))), 4)  # u - ln 2
        99.3069
    """
    size = jnp.abs(residual)
    return size + jnp.log1p(jnp.exp(-2 * size)) - jnp.log(2.0).astype(size.dtype)


def pinball(residual: Float[Array, "..."], level: float) -> Float[Array, "..."]:
    r"""Return :math:`\max(\tau u, (\tau - 1) u)` of :math:`u` = target - prediction.

    Its mean is smallest where the prediction is the quantile of level :math:`\tau`.

    Example:
        >>> pinball(jnp.array([1.0, -1.0]), 0.75).tolist()
        [0.75, 0.25]

    References:
        Koenker, Bassett, Econometrica 46 (1978) 33.
    """
    return jnp.maximum(level * residual, (level - 1) * residual)


def multitask_entropy(
    outputs: Float[Array, "events outputs"],
    labels: Int[Array, " events"],
    target: Float[Array, " events"],
    weights: Float[Array, " events"] | None = None,
    *,
    classes: int,
    levels: Sequence[float] = QUANTILES,
    regression: float = 1.0,
    quantile: float = 1.0,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return cross-entropy + log-cosh of a regression + pinball of its quantiles.

    Args:
        outputs: Logits of the classes, then the regression, then one number a level.
        labels: Number of the class of each event.
        target: What is regressed, such as true over measured momentum.
        weights: Weights of the events; one by default.
        classes: Number of classes.
        levels: Levels of the quantiles.
        regression: Factor of the log-cosh.
        quantile: Factor of the pinball losses.

    Returns:
        The sum, and its parts ``{"entropy", "regression", "quantiles"}``.

    Example:
        >>> outputs = jnp.array([[0.0, 0.0, 1.0, 0.9, 1.1]])
        >>> value, parts = multitask_entropy(outputs, jnp.array([0]), jnp.array([1.0]), classes=2)
        >>> [round(float(parts[name]), 3) for name in parts]
        [0.693, 0.0, 0.032]

    References:
        CMS, DP-2024/066 (UParT); its weights are not public.
    """
    own = jnp.ones_like(target) if weights is None else weights
    norm = jnp.sum(own)
    entropy = multiclass_entropy(outputs[:, :classes], labels, own)
    centre = jnp.sum(own * log_cosh(target - outputs[:, classes])) / norm
    bands = sum(
        (
            jnp.sum(own * pinball(target - outputs[:, classes + 1 + i], level)) / norm
            for i, level in enumerate(levels)
        ),
        jnp.zeros((), outputs.dtype),
    )
    parts = {"entropy": entropy, "regression": centre, "quantiles": bands}
    return entropy + regression * centre + quantile * bands, parts
