"""The area under the ROC curve."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from difana._numerics import safe_divide
from difana.metrics._checks import as_events


def roc_auc(
    scores: Float[ArrayLike, " events"],
    labels: Shaped[ArrayLike, " events"],
    weights: Float[ArrayLike, " events"] | None = None,
) -> Float[Array, ""]:
    r"""Return the probability that a signal event scores above a background event.

    .. math::
        \mathrm{AUC} = \frac{\sum_{i \in S, j \in B} w_i w_j
        \left( [s_i > s_j] + \tfrac12 [s_i = s_j] \right)}{\sum_{i \in S} w_i \sum_{j \in B} w_j}

    Exact for any weights, negative ones included, at the cost of one sort. It is piecewise
    constant in the scores: its gradient with respect to them is zero.

    Args:
        scores: Larger is more signal-like, ``[events]``.
        labels: 1 for signal, 0 for background, ``[events]``.
        weights: Event weights, ``[events]``; all one if not given.

    Returns:
        A scalar, 0.5 for an observable without any power.

    Raises:
        InputError: If the shapes differ; outside jit, if a number is not finite or a class empty.

    Example:
        >>> import jax.numpy as jnp
        >>> float(roc_auc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])))
        0.75
    """
    x, signal, background = as_events(scores, labels, weights)
    # shares: products of tiny or huge weights would leave the range of float32
    signal, background = (safe_divide(w, jnp.sum(w)) for w in (signal, background))
    order = jnp.argsort(x)
    ranked = x[order]
    cumulative = jnp.concatenate([jnp.zeros(1, ranked.dtype), jnp.cumsum(background[order])])
    below = cumulative[jnp.searchsorted(ranked, x, side="left")]
    up_to = cumulative[jnp.searchsorted(ranked, x, side="right")]
    total = jnp.sum(signal) * jnp.sum(background)
    return safe_divide(jnp.sum(signal * (below + up_to) / 2), total, fill=0.5)
