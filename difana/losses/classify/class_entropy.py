"""Cross-entropy of several classes of samples, which all count the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide
from difana._typing import Network
from difana.data import Sample
from difana.data.inputs import joined


def class_entropy(
    net: Network, batch: Sequence[Sample], *, classes: Mapping[str, int]
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the cross-entropy of classes that are groups of samples.

    .. math:: L = -\frac1K \sum_k \frac{\sum_{i \in k} w_i \ln\mathrm{softmax}_k(z_i)}
              {\sum_{i \in k} w_i}

    Args:
        net: Any callable PyTree with one output a class.
        batch: Samples that stand for the full yields; their nominal events are used.
        classes: Number of the class by sample, from 0.

    Returns:
        The cross-entropy, and ``{"value"}``.

    Raises:
        InputError: If a sample has no class, or the network another number of outputs.

    Example:
        >>> from difana.data import Events
        >>> batch = [Sample(Events(jnp.zeros((4, 3)), jnp.ones(4)), name=n) for n in "abc"]
        >>> value, _ = class_entropy(lambda x: x, batch, classes={"a": 0, "b": 1, "c": 2})
        >>> round(float(value), 4)  # ln 3
        1.0986
    """
    missing = [sample.name for sample in batch if sample.name not in classes]
    if missing:
        raise InputError(f"sample '{missing[0]}' is in no class: there are {dict(classes)}")
    number = max(classes.values()) + 1
    logits = net(joined([sample.nominal.inputs for sample in batch]))
    if logits.ndim != 2 or logits.shape[1] != number:
        raise InputError(f"the network gives {logits.shape}: {number} classes need as many outputs")
    logs = jax.nn.log_softmax(logits, axis=-1)
    totals, norms = [jnp.zeros((), logs.dtype)] * number, [jnp.zeros((), logs.dtype)] * number
    start = 0
    for sample in batch:
        own, k = logs[start : start + len(sample.nominal)], classes[sample.name]
        weights = sample.nominal.weights.astype(logs.dtype)
        totals[k] = totals[k] - jnp.sum(weights * own[:, k])
        norms[k] = norms[k] + jnp.sum(weights)
        start += len(sample.nominal)
    parts = [safe_divide(total, norm) for total, norm in zip(totals, norms, strict=True)]
    value = sum(parts, jnp.zeros((), logs.dtype)) / number
    return value, {"value": value}
