"""In which order events are drawn: a permutation an epoch, as a function of key and epoch only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


class Order:
    """The places that batch ``step`` of ``size`` takes of ``events`` events.

    Those of places ``step * size, ..., step * size + size - 1`` (modulo ``events``) of a
    permutation that depends on words, source and number of events, and on the epoch
    ``step * size // events``. The permutation of the current epoch of each source is kept.

    Example:
        >>> order = Order([0, 7], size=2)
        >>> sorted(int(i) for step in range(3) for i in order(step, events=6))
        [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, words: Sequence[int], *, size: int) -> None:
        """Remember the words of a random key and the size of a batch."""
        self._words = tuple(words)
        self._size = size
        self._kept: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    def __call__(self, step: int, *, events: int, source: int = 0) -> Int[np.ndarray, " size"]:
        """Return the indices of one batch of one source."""
        epoch, start = divmod(step * self._size, events)
        kept, permutation = self._kept.get((source, events), (-1, np.empty(0)))
        if kept != epoch:
            generator = np.random.default_rng([*self._words, source, epoch])
            permutation = generator.permutation(np.arange(events, dtype=np.int32))
            self._kept[source, events] = (epoch, permutation)
        # Past the end, wrap around in the same permutation: no event twice in one batch.
        return np.take(permutation, np.arange(start, start + self._size), mode="wrap")
