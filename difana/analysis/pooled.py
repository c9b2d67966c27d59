"""Splits put together, and drawn again with replacement."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from difana.analysis.templates import ObservedSample, Values


def pooled(splits: Sequence[Sequence[ObservedSample]]) -> tuple[ObservedSample, ...]:
    """Return the splits as one: each stands for the full yield, together they do, too."""
    return tuple(_pool(samples, scaled=True) for samples in zip(*splits, strict=True))


def joined(parts: Sequence[Sequence[ObservedSample]]) -> tuple[ObservedSample, ...]:
    """Return the parts as one: only together do they stand for the full yield.

    Example:
        >>> parts = [[ObservedSample("b", Values(np.array([x]), np.ones(1)))] for x in (0.2, 0.7)]
        >>> joined(parts)[0].nominal.x.tolist(), joined(parts)[0].nominal.weights.tolist()
        ([0.2, 0.7], [1.0, 1.0])
    """
    return tuple(_pool(samples, scaled=False) for samples in zip(*parts, strict=True))


def resampled(
    samples: Sequence[ObservedSample], rng: np.random.Generator
) -> tuple[ObservedSample, ...]:
    """Return the samples as another simulation might be: each event so often as Poisson(1) says.

    Events at +1 and -1 of a variation are drawn with the nominal ones where there are as many:
    then they are the same events, moved or with other weights. What the simulation knows to a few
    per cent is told by the spread of anything over a number of such samples (bootstrap).

    Args:
        samples: Samples with their observable.
        rng: Random numbers.

    Example:
        >>> x = np.linspace(0, 1, 1000)
        >>> sample = ObservedSample("b", Values(x, np.ones(1000)))
        >>> again = resampled([sample], np.random.default_rng(0))[0].nominal
        >>> float(again.weights.sum()), bool((again.x == x).all())
        (1002.0, True)
    """
    return tuple(_drawn(sample, rng) for sample in samples)


def _drawn(sample: ObservedSample, rng: np.random.Generator) -> ObservedSample:
    times = rng.poisson(1.0, len(sample.nominal.x)).astype(float)

    def own(values: Values) -> Values:
        same = len(values.x) == len(times)
        return Values(
            values.x, values.weights * (times if same else rng.poisson(1.0, len(values.x)))
        )

    shapes = tuple((name, own(up), own(down)) for name, up, down in sample.shapes)
    return dataclasses.replace(sample, nominal=own(sample.nominal), shapes=shapes)


def _pool(samples: Sequence[ObservedSample], *, scaled: bool) -> ObservedSample:
    first = samples[0]
    shapes = [
        (same[0][0], *(_join([entry[side] for entry in same], scaled=scaled) for side in (1, 2)))
        for same in zip(*(sample.shapes for sample in samples), strict=True)
    ]
    nominal = _join([sample.nominal for sample in samples], scaled=scaled)
    return dataclasses.replace(first, nominal=nominal, shapes=tuple(shapes))


def _join(parts: Sequence[Values], *, scaled: bool) -> Values:
    total = sum(len(part.x) for part in parts)
    weights = [part.weights * (len(part.x) / max(total, 1) if scaled else 1.0) for part in parts]
    return Values(np.concatenate([part.x for part in parts]), np.concatenate(weights))
