"""A penalty against bins with too little simulated background."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._numerics import safe_divide
from difana.data import is_signal
from difana.likelihood import Channel


def minimum_events(
    channel: Channel, *, poi: str | Sequence[str] = "mu", threshold: float = 10.0
) -> Float[Array, ""]:
    r"""Return the penalty :math:`\sum_b \max(0, 1 - n_b/t)^2`.

    :math:`n_b = (\sum w)^2 / \sum w^2` is the effective number of simulated background events in
    bin b. Without it, training on a limit empties bins of the background of its own sample.

    Args:
        channel: A channel with staterror modifiers.
        poi: Free factor that marks the signal, which is left out.
        threshold: Effective events wanted in each bin.

    Example:
        >>> from difana.likelihood import StatError, Template
        >>> b = Template([100.0, 4.0], (StatError([10.0, 2.0], "stat"),), name="b")
        >>> round(float(minimum_events(Channel((b,), name="SR"), threshold=8.0)), 4)
        0.25
    """
    yields, variances = 0.0, 0.0
    for template in channel.templates:
        kinds = {modifier.kind: modifier for modifier in template.modifiers}
        if is_signal(template, poi):
            continue
        if "staterror" in kinds:
            yields = yields + jnp.asarray(template.values)
            variances = variances + jnp.asarray(kinds["staterror"].uncertainty) ** 2
    effective = safe_divide(jnp.maximum(jnp.asarray(yields), 0.0) ** 2, jnp.asarray(variances))
    return jnp.sum(jax.nn.relu(1.0 - effective / threshold) ** 2)
