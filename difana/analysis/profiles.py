"""The observable as a function of each input."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana._options import whole_number
from difana._typing import Network
from difana.analysis.gradient_importance import check_features
from difana.analysis.templates import network_scores
from difana.data import Sample


@dataclasses.dataclass(frozen=True)
class Profile:
    """The observable as a function of one input.

    Attributes:
        column: Name of the input.
        edges: Bin edges of the input, quantiles over all samples, ``[bins + 1]``.
        mean: Mean observable in each bin by sample, ``[samples, bins]``; NaN without events.
        spread: Standard deviation there, ``[samples, bins]``.
        names: Names of the samples.
    """

    column: str
    edges: Float[np.ndarray, " edges"]
    mean: Float[np.ndarray, "samples bins"]
    spread: Float[np.ndarray, "samples bins"]
    names: tuple[str, ...]


def observable_profiles(
    net: Network, samples: Sequence[Sample], *, bins: int = 20
) -> tuple[Profile, ...]:
    """Return mean and spread of the observable in bins of every input.

    Args:
        net: Any callable PyTree; its first observable is used.
        samples: Samples; their nominal events are used.
        bins: Bins of each input, at quantiles of all events together.

    Raises:
        InputError: If there are no samples.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> x = jnp.arange(8.0)[:, None]
        >>> sample = Sample(Events(x, jnp.ones(8), columns=("a",)), name="s")
        >>> observable_profiles(lambda x: 2 * x, [sample], bins=2)[0].mean.tolist()
        [[3.0, 11.0]]
    """
    bins = whole_number("bins", bins)
    if not samples:
        raise InputError("no samples: profiles need at least one")
    check_features(samples)
    features = [np.asarray(s.nominal.features) for s in samples]
    weights = [np.abs(np.asarray(s.nominal.weights, float)) for s in samples]
    scores = [network_scores(net, x).astype(float) for x in features]
    together = np.concatenate(features)
    found = []
    for j in range(together.shape[1]):
        edges = np.unique(np.quantile(together[:, j], np.linspace(0, 1, bins + 1)))
        rows = []
        for x, w, y in zip(features, weights, scores, strict=True):
            where = np.clip(np.searchsorted(edges, x[:, j], side="right") - 1, 0, len(edges) - 2)
            sums = [np.bincount(where, w * y**k, max(len(edges) - 1, 1)) for k in range(3)]
            some = np.where(sums[0] > 0, sums[0], np.nan)
            mean = sums[1] / some
            rows.append((mean, np.sqrt(np.maximum(sums[2] / some - mean**2, 0.0))))
        mean, spread = (np.array(part) for part in zip(*rows, strict=True))
        column = samples[0].nominal.columns[j] if samples[0].nominal.columns else f"x{j}"
        found.append(Profile(column, edges, mean, spread, tuple(s.name for s in samples)))
    return tuple(found)
