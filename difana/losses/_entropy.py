"""Cross-entropy in which signal and background count the same."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def balanced_entropy(terms: Iterable[tuple[bool, Array, Array]]) -> Float[Array, ""]:
    """Return the mean of the cross-entropies of both classes.

    Args:
        terms: Whether it is signal, weights ``[events]`` and logits ``[events]`` of each block.
    """
    sums = {True: [jnp.zeros(())] * 2, False: [jnp.zeros(())] * 2}
    for signal, weights, x in terms:
        loss = jax.nn.softplus(-x if signal else x)
        weights = weights.astype(loss.dtype)
        total, norm = sums[signal]
        sums[signal] = [total + jnp.sum(weights * loss), norm + jnp.sum(weights)]
    return jnp.asarray(0.5 * sum(total / norm for total, norm in sums.values()))
