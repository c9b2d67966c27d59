"""Folds by a hash of the event: every event is in the test of one, and never in its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from difana._options import whole_number
from difana.data.events import Events
from difana.data.samples import Sample
from difana.data.split import Identifiers, Part, split_parts, split_sample

_TRAIN = 2 / 3  # of the events of the other folds; with 4 folds as many as a split in halves


class Fold(NamedTuple):
    """One fold of a sample.

    Attributes:
        train: Events of the other folds to train on, scaled to the full yield.
        validation: The other events of the other folds, the same.
        test: The events of the fold, with their own weights: all folds together have the full
            yield.
    """

    train: Sample
    validation: Sample
    test: Sample


def split_folds(
    sample: Sample,
    folds: int,
    *,
    seed: int = 0,
    identifiers: Identifiers | None = None,
    shifted_identifiers: Mapping[str, tuple[Identifiers, Identifiers]] | None = None,
) -> tuple[Fold, ...]:
    r"""Split a sample for cross-fitting: each event is tested in one fold and trains the others.

    An event is in fold :math:`f` of :math:`k` if its hash :math:`u \in [f/k, (f+1)/k)`, as in
    `split`; the first two thirds of each range train the other folds, the last one is held out
    there.

    Args:
        sample: The sample.
        folds: Number of folds, at least 2.
        seed: Another seed gives other folds.
        identifiers: What names the (nominal) events; see `split`.
        shifted_identifiers: What names those of `ShiftedEvents`.

    Raises:
        InputError: If a part has no positive yield.
        ConfigError: If there are fewer than two folds.

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.arange(1000.0)[:, None], jnp.ones(1000), columns=("x",))
        >>> first, second = split_folds(Sample(events, name="s"), 2)
        >>> len(first.test.nominal) + len(second.test.nominal)
        1000
        >>> trained = set(first.train.nominal.features[:, 0].tolist())
        >>> trained <= set(second.test.nominal.features[:, 0].tolist())
        True
    """
    fractions, parts = _ranges(folds), []
    for f in range(folds):
        name, others = f"fold {f + 1} of {folds}", [g for g in range(folds) if g != f]
        parts += [
            Part(tuple(2 * g for g in others), f"the training of {name}"),
            Part(tuple(2 * g + 1 for g in others), f"the validation of {name}"),
            Part((2 * f, 2 * f + 1), name, scaled=False),
        ]
    found = split_sample(
        sample,
        fractions,
        parts,
        seed=seed,
        identifiers=identifiers,
        shifted_identifiers=shifted_identifiers,
    )
    return tuple(Fold(*found[3 * f : 3 * f + 3]) for f in range(folds))


def fold_of(
    events: Events, folds: int, *, seed: int = 0, identifiers: Identifiers | None = None
) -> Shaped[np.ndarray, " events"]:
    """Return the number of the fold in whose test `split_folds` puts each event, from 0.

    Args:
        events: The events.
        folds: As in `split_folds`, like the others.
        seed: Seed of the hash.
        identifiers: What names the events.

    Raises:
        InputError: If the identifiers are wrong.
        ConfigError: If there are fewer than two folds.

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.arange(1000.0)[:, None], jnp.ones(1000), columns=("x",))
        >>> first, second = split_folds(Sample(events, name="s"), 2)
        >>> np.bincount(fold_of(events, 2))[0] == len(first.test.nominal)
        np.True_
    """
    return split_parts(events, _ranges(folds), seed=seed, identifiers=identifiers) // 2


def _ranges(folds: int) -> tuple[float, ...]:
    """Return the sizes of the ranges of the hash: of each fold one to train on, one held out."""
    folds = whole_number("folds", folds, least=2)
    return (_TRAIN / folds, (1 - _TRAIN) / folds) * folds
