"""Classifiers and their binnings: what the limit training is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def _cross_entropy(train, validation, *, network, training, key, shared) -> Any:
    """Return the network of cross-entropy; it does not depend on the systematics."""
    if "cross-entropy" not in shared:
        shared["cross-entropy"] = _trained(train, validation, network, training, key)
    return shared["cross-entropy"]


def _augmented(train, validation, *, network, training, key, shared) -> Any:
    """Return the network of cross-entropy averaged over the variations; None without any."""
    first = train[0].variations[0]
    if np.array_equal(first.up.features, first.down.features):
        return None
    return _trained(train, validation, network, training, key, variations=True)


def _trained(train, validation, network, training, key, **options: Any) -> Any:
    import jax

    from difana.analysis.optimise import pretrain

    first, second = jax.random.split(key)
    return pretrain(
        train,
        validation,
        network=network,
        training=training,
        weights_key=first,
        key=second,
        progress_bar=False,
        **options,
    ).trainable


CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "cross-entropy": _cross_entropy,
    "augmentation": _augmented,
}


def binnings(seen, score, *, on, training) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and edges of every binning of one classifier; the best one comes last.

    ``best bins`` are searched without gradients on training and validation events.
    """
    from difana._errors import InputError
    from difana.analysis import best_bins
    from difana.analysis.observables import baseline_edges

    for name, choose in baseline_edges(seen[0], poi=on.poi, bins=on.bins).items():
        if name == "one bin":
            continue
        try:
            edges = choose()
        except InputError:  # too few distinct scores
            edges = np.zeros(0)
        yield name.removeprefix("cross-entropy, "), edges
    found = best_bins(seen[:2], score, poi=on.poi, bins=on.bins, budget=training.search)
    yield "best bins", found.edges
