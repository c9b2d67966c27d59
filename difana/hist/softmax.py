"""Bins learned by a network: one logit a bin."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import segment_sums, weighted_sums
from difana.hist._checks import check_events, check_positive
from difana.hist.histogram import Histogram


def softmax_histogram(
    logits: Float[Array, "events bins"],
    weights: Float[Array, " events"] | None,
    *,
    temperature: Float[Array, ""] | float,
) -> Histogram:
    r"""Return soft yields in bins that a network chooses.

    .. math:: n_j = \sum_i w_i\, \mathrm{softmax}(f(x_i) / \tau)_j

    and ``squares`` the same with :math:`w_i^2`. Differentiated by JAX, to any order.

    Args:
        logits: Output of the network, one column a bin.
        weights: Weights ``[events]``, of any sign; ``None`` for unit weights.
        temperature: ``tau > 0``; towards 0 the yields become those of :func:`argmax_histogram`.

    Returns:
        The histogram, with edges 0, 1, ..., bins.

    Raises:
        InputError: Outside jit, for wrong shapes, a temperature that is not positive, NaN logits
            or a weight that is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[0.0, 0.0], [9.0, 0.0]])
        >>> softmax_histogram(logits, None, temperature=0.1).values().tolist()
        [1.5, 0.5]

    References:
        P. de Castro, T. Dorigo, arXiv:1806.04743, section 3.
    """
    logits, weights, edges = _prepare(logits, weights)
    temperature = check_positive(temperature, name="temperature", zero=False).astype(logits.dtype)
    # infinite logits, or those of a tiny temperature, are the largest finite ones: no inf - inf
    most = jnp.finfo(logits.dtype).max / 4
    shares = jax.nn.softmax(jnp.clip(logits / temperature, -most, most), axis=1)
    contents, squares = weighted_sums(jnp.stack([weights, weights * weights]), shares)
    return Histogram((edges,), contents, squares)


def argmax_histogram(
    logits: Float[Array, "events bins"], weights: Float[Array, " events"] | None
) -> Histogram:
    r"""Return hard yields: each event counts in the bin of its largest logit.

    .. math:: n_j = \sum_i w_i\, [\arg\max f(x_i) = j]

    Differentiable in ``weights`` only.

    Args:
        logits: Output of the network, one column a bin.
        weights: Weights ``[events]``, of any sign; ``None`` for unit weights.

    Returns:
        The histogram, with edges 0, 1, ..., bins.

    Raises:
        InputError: Outside jit, for wrong shapes, NaN logits or a weight that is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[0.0, 0.1], [9.0, 0.0]])
        >>> argmax_histogram(logits, jnp.array([2.0, 1.0])).variances().tolist()
        [1.0, 4.0]
    """
    logits, weights, edges = _prepare(logits, weights)
    bins = jnp.argmax(logits, axis=1)
    size = logits.shape[1]
    contents, squares = (segment_sums(row, bins, size) for row in (weights, weights * weights))
    return Histogram((edges,), contents, squares)


def _prepare(logits: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    if jnp.ndim(logits) != 2:
        raise InputError(f"logits have shape {jnp.shape(logits)}, not (events, bins)")
    bins = jnp.shape(logits)[1]
    logits, weights = check_events(logits, weights, name="logits", dims=bins)
    return logits, weights, jnp.arange(bins + 1, dtype=logits.dtype)
