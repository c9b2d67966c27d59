"""Which input matters: by shuffling it among all events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float

from difana._options import whole_number
from difana._typing import Network
from difana.analysis.gradient_importance import check_features
from difana.analysis.templates import hard_channel, observe
from difana.data import Events, Sample
from difana.likelihood import Channel


def shuffle_importance(
    net: Network,
    samples: Sequence[Sample],
    score: Callable[[Channel], float],
    *,
    edges: Float[np.ndarray, " edges"],
    repeats: int = 1,
    seed: int = 0,
    name: str = "SR",
    staterror: bool = True,
) -> tuple[float, Float[np.ndarray, " features"]]:
    """Return a score in hard bins, and its rise when one input is shuffled among all events.

    The values of the input are drawn anew from those of all samples, each sample counting the
    same: the input then says nothing about the process, nor together with the others. Shifted
    events of equal number get the same values; exact transformations act on the new values.

    Args:
        net: Any callable PyTree.
        samples: Samples with their variations, e.g. of the test split.
        score: A function of hard bins to be minimised, e.g. the logarithm of the limit.
        edges: Bin edges of the observable.
        repeats: Shuffles to average over.
        seed: Seed of the shuffles.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.

    Example:
        >>> import jax.numpy as jnp
        >>> x = np.random.default_rng(0).normal(size=(2, 500, 2)).astype(np.float32)
        >>> x[0, :, 0] += 2
        >>> s, b = (Sample(Events(jnp.asarray(part), jnp.ones(500), columns=("a", "b")), name=n)
        ...         for part, n in zip(x, "sb"))
        >>> def overlap(channel):
        ...     return float(np.minimum(*(t.values for t in channel.templates)).sum() / 500)
        >>> value, rise = shuffle_importance(
        ...     lambda x: x[:, :1], [s, b], overlap, edges=np.array([-9.0, 1.0, 9.0]))
        >>> bool(rise[0] > 0.5), float(rise[1])
        (True, 0.0)
    """

    def judged(changed: Sequence[Sample]) -> float:
        seen = observe(net, changed)
        return float(score(hard_channel(seen, np.asarray(edges), name=name, staterror=staterror)))

    repeats = whole_number("repeats", repeats)
    check_features(samples)
    start = judged(samples)
    rng = np.random.default_rng(seed)
    features = samples[0].nominal.features.shape[1]
    rise = np.zeros(features)
    for column in range(features):
        for _ in range(repeats):
            draw = _pool(samples, column, rng)
            rise[column] += judged([_replaced(s, column, draw) for s in samples]) - start
    return start, rise / repeats


def _pool(
    samples: Sequence[Sample], column: int, rng: np.random.Generator
) -> Callable[[int], np.ndarray]:
    """Return how to draw values of one input from all samples alike."""
    values = [np.asarray(sample.nominal.features[:, column]) for sample in samples]
    chances = []
    for sample in samples:
        weights = np.abs(np.asarray(sample.nominal.weights, float))
        chances.append(np.cumsum(weights) / weights.sum())

    def draw(number: int) -> np.ndarray:
        process = rng.integers(len(values), size=number)
        place = rng.random(number)
        found = np.empty(number, values[0].dtype)
        for i, (own, chance) in enumerate(zip(values, chances, strict=True)):
            mine = process == i
            index = np.minimum(np.searchsorted(chance, place[mine], side="right"), len(own) - 1)
            found[mine] = own[index]
        return found

    return draw


def _replaced(sample: Sample, column: int, draw: Callable[[int], np.ndarray]) -> Sample:
    """Return the sample with new values of one input, in its variations as well."""
    fresh = draw(len(sample.nominal))

    def events(old: Events) -> Events:
        own = fresh if len(old) == len(fresh) else draw(len(old))
        return old.with_features(old.features.at[:, column].set(own))

    variations = tuple(
        variation.mapped(lambda _, own: events(own), lambda _, weights: weights)
        for variation in sample.variations
    )
    return eqx.tree_at(
        lambda s: (s.nominal, s.variations), sample, (events(sample.nominal), variations)
    )
