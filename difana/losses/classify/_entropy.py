"""Cross-entropy in which signal and background count the same."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide


def balanced_entropy(terms: Iterable[tuple[bool, Array, Array]]) -> Float[Array, ""]:
    """Return the mean of the cross-entropies of both classes.

    Args:
        terms: Whether it is signal, weights ``[events]`` and logits ``[events]`` of each block.

    Raises:
        InputError: Outside jit, if the total weight of a class is not positive.
    """
    sums = {True: [jnp.zeros(())] * 2, False: [jnp.zeros(())] * 2}
    for signal, weights, x in terms:
        loss = jax.nn.softplus(-x if signal else x)
        weights = weights.astype(loss.dtype)
        total, norm = sums[signal]
        sums[signal] = [
            total + jnp.sum(weights * loss).astype(total.dtype),
            norm + jnp.sum(weights).astype(norm.dtype),
        ]
    for signal, (_, norm) in sums.items():
        if not isinstance(norm, Tracer) and not float(norm) > 0:
            raise InputError(
                f"the weights of the {'signal' if signal else 'background'} have a total of"
                f" {float(norm):g}: it must be positive for a cross-entropy"
            )
    # a batch without weight of one class says nothing about it
    return jnp.asarray(0.5 * sum(safe_divide(total, norm) for total, norm in sums.values()))
