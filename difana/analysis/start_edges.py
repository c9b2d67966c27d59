"""Edges to start from: a few for the bulk of the background, the others for the signal."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana.analysis.templates import ObservedSample, Values, hard_channel
from difana.data import is_signal
from difana.likelihood import Channel

# Quantiles of the background between which the bulk edges lie: below, a good observable has no
# signal to tell apart; above, the edges of the signal bins begin. Only where the search starts.
_BULK = (0.4, 0.85)
# 1: equal signal in each bin; a power p leaves the purest of n bins a share n^-p of the signal, at
# 1.8 and ten bins 1.6 %. The score chooses among them.
_POWERS = (1.0, 1.4, 1.8)


def candidate_edges(
    samples: Sequence[ObservedSample], *, poi: str, bins: int
) -> list[Float[np.ndarray, " edges"]]:
    """Return binnings with 0 to 4 edges in the bulk, and bins of (nearly) equal signal above.

    Bins of equal signal put nearly all of the background into one bin, where its shape cannot
    constrain the nuisances; a few edges in the bulk let it. The signal bins hold either equal
    signal or ever less of it towards the purest one.

    Args:
        samples: Training samples with their observable.
        poi: Parameter of interest; what it multiplies is signal.
        bins: Number of bins.
    """
    signal = [s.nominal for s in samples if is_signal(s, poi)]
    background = [s.nominal for s in samples if not is_signal(s, poi)]
    xs, ws = (np.concatenate([getattr(v, name) for v in signal]) for name in ("x", "weights"))
    xb = np.concatenate([v.x for v in background])
    low, high = min(xs.min(), xb.min()), max(xs.max(), xb.max())
    found = []
    order = np.argsort(xs, kind="stable")
    share = np.cumsum(ws[order]) / ws.sum()
    for bulk, power in itertools.product(range(min(5, max(bins - 2, 1))), _POWERS):
        fractions = 1 - (1 - np.arange(1, bins - bulk) / (bins - bulk)) ** power
        own = np.interp(fractions, share, xs[order])
        quantiles = np.linspace(*_BULK, bulk) if bulk > 1 else np.array(_BULK[1:])[:bulk]
        inner = np.unique(np.concatenate([own, np.quantile(xb, quantiles)]))
        edges = np.concatenate([[low], inner, [np.nextafter(high, np.inf)]])
        if len(edges) == bins + 1 and np.all(np.diff(edges) > 0):
            found.append(edges)
    if not found:
        raise InputError(
            f"the network's output has too few distinct values for {bins} bins: train it longer "
            "(Training: PretrainSteps) or ask for fewer bins"
        )
    return found


def start_edges(
    splits: Sequence[Sequence[ObservedSample]],
    score: Callable[[Channel], float],
    *,
    poi: str,
    bins: int,
    name: str,
    staterror: bool,
) -> Float[np.ndarray, " edges"]:
    """Return the candidate with the lowest score in hard bins of all splits together.

    Args:
        splits: Training and validation samples with their observable; the candidates come from
            the first.
        score: What to minimise.
        poi: Parameter of interest; what it multiplies is signal.
        bins: Number of bins.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.
    """
    candidates = candidate_edges(splits[0], poi=poi, bins=bins)
    together = pooled(splits)
    scores = [
        score(hard_channel(together, edges, name=name, staterror=staterror)) for edges in candidates
    ]
    return candidates[int(np.argmin(np.where(np.isfinite(scores), scores, np.inf)))]


def pooled(splits: Sequence[Sequence[ObservedSample]]) -> tuple[ObservedSample, ...]:
    """Return the splits as one: each stands for the full yield, together they do, too."""
    return tuple(_pool(samples) for samples in zip(*splits, strict=True))


def _pool(samples: Sequence[ObservedSample]) -> ObservedSample:
    first = samples[0]
    shapes = [
        (same[0][0], _join([up for _, up, _ in same]), _join([down for _, _, down in same]))
        for same in zip(*(sample.shapes for sample in samples), strict=True)
    ]
    nominal = _join([sample.nominal for sample in samples])
    return dataclasses.replace(first, nominal=nominal, shapes=tuple(shapes))


def _join(parts: Sequence[Values]) -> Values:
    total = sum(len(part.x) for part in parts)
    weights = [part.weights * (len(part.x) / total) for part in parts]
    return Values(np.concatenate([part.x for part in parts]), np.concatenate(weights))
