"""Cross-entropy of several classes: weights, smoothed labels, focus on hard events."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from difana._errors import InputError
from difana._numerics import traced


def multiclass_entropy(
    logits: Float[Array, "events classes"],
    labels: Int[Array, " events"],
    weights: Float[ArrayLike, " events"] | None = None,
    *,
    smoothing: float = 0.0,
    focal: float = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
) -> Float[Array, ""]:
    r"""Return the weighted mean of the cross-entropy.

    .. math:: L = \frac{\sum_i w_i c_{y_i} (1 - p_{i,y_i})^\gamma
              \left[-\sum_k t_{ik} \ln p_{ik}\right]}{\sum_i w_i c_{y_i}}, \qquad
              t_{ik} = (1 - \epsilon)\,\delta_{k y_i} + \epsilon / K

    Weights may be negative, as those of next-to-leading order are; their sum must be positive.

    Args:
        logits: One number a class.
        labels: Number of the class of each event.
        weights: Weights of the events; one by default.
        smoothing: Share :math:`\epsilon` of a label that all classes get.
        focal: Power :math:`\gamma` by which easy events count less.
        class_weights: Factor :math:`c` of each class.

    Raises:
        InputError: Outside jit, if a label is no class, or the weights have no positive sum.

    Example:
        >>> float(multiclass_entropy(jnp.zeros((1, 4)), jnp.array([2]))) == float(jnp.log(4.0))
        True
        >>> multiclass_entropy(jnp.zeros((1, 2)), jnp.array([2]))
        Traceback (most recent call last):
        difana._errors.InputError: label 2 is no class of 2: labels are 0 to 1

    References:
        Focal: Lin et al., arXiv:1708.02002. Smoothing: Szegedy et al., arXiv:1512.00567.
    """
    classes = logits.shape[-1]
    own = jnp.ones(len(logits), logits.dtype) if weights is None else jnp.asarray(weights)
    own = own.astype(logits.dtype)
    if not traced(labels, own):
        wrong = np.asarray(labels)[(np.asarray(labels) < 0) | (np.asarray(labels) >= classes)]
        if len(wrong):
            raise InputError(
                f"label {wrong[0]} is no class of {classes}: labels are 0 to {classes - 1}"
            )
        if not float(own.sum()) > 0:
            raise InputError(f"the weights have a sum of {float(own.sum()):g}: it must be positive")
    logs = jax.nn.log_softmax(logits, axis=-1)
    true = jnp.take_along_axis(logs, labels[:, None], axis=-1)[:, 0]
    entropy = -(1 - smoothing) * true - smoothing * jnp.mean(logs, axis=-1)
    if focal:
        entropy = entropy * (-jnp.expm1(jnp.minimum(true, -1e-7))) ** focal
    if class_weights is not None:
        own = own * jnp.asarray(class_weights, logits.dtype)[labels]
    return jnp.sum(own * entropy) / jnp.sum(own)
