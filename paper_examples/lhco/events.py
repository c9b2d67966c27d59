"""The events of one seed: three splits, with systematics of any size."""

from __future__ import annotations

import dataclasses

import numpy as np
from prepare import COLUMNS, YIELDS

FRACTIONS = (0.3, 0.2)  # training, validation; the rest is for the test
MASS, TAU = 0.03, 0.05  # nominal sizes of the two scales
NORM = 0.1


def splits_of(
    rows: dict[str, np.ndarray], *, seed: int, size: float, events: int | None = None
) -> tuple:
    """Return training, validation and test samples; a seed permutes the events.

    All seeds have splits of the same lengths, and a size only changes numbers: one compilation
    serves them all. The shifted events are exact transformations of the nominal ones.
    """
    parts: list[list] = [[], [], []]
    for number, (name, table) in enumerate(rows.items()):
        table = table if events is None else table[:: max(len(table) // events, 1)][:events]
        order = np.random.default_rng([seed, number]).permutation(len(table))
        cuts = np.cumsum([int(f * len(table)) for f in FRACTIONS])
        for part, index in zip(parts, np.split(order, cuts), strict=True):
            part.append(_sample(name, table[np.sort(index), 1:5], size))
    return tuple(tuple(part) for part in parts)


@dataclasses.dataclass(frozen=True)
class Scale:
    """Multiply neighbouring columns by ``1 + step * alpha``; equal ones share compiled programs."""

    first: int
    last: int
    step: float

    def __call__(self, features, alpha):
        """Return the features at ``alpha`` standard deviations."""
        import jax.numpy as jnp

        column = jnp.arange(features.shape[-1])
        inside = (column >= self.first) & (column <= self.last)
        return features * jnp.where(inside, 1 + self.step * alpha, 1.0).astype(features.dtype)


def moving(samples, size: float) -> tuple:
    """Return the samples with scales that can have any value, for training at random ones.

    The normalisation is left out: it tells a classifier nothing.
    """
    from difana.data import Sample, Transformation

    scales = (
        Transformation(function=Scale(0, 1, size * MASS), name="mass_scale"),
        Transformation(function=Scale(2, 3, size * TAU), name="tau21_scale"),
    )
    return tuple(Sample(s.nominal, scales, name=s.name, normfactors=s.normfactors) for s in samples)


def _sample(name: str, features: np.ndarray, size: float):
    import jax.numpy as jnp

    from difana.data import Events, Normalisation, Sample, ShiftedEvents

    weights = jnp.full(len(features), YIELDS[name] / len(features), jnp.float32)

    def shifted(columns: slice, scale: float) -> Events:
        moved = features.astype(np.float64)
        moved[:, columns] *= 1 + scale
        return Events(jnp.asarray(moved, jnp.float32), weights, columns=COLUMNS)

    variations: list = [
        ShiftedEvents(
            up=shifted(columns, size * scale),
            down=shifted(columns, -size * scale),
            name=f"{label}_scale",
        )
        for label, columns, scale in (("mass", slice(0, 2), MASS), ("tau21", slice(2, 4), TAU))
    ]
    if name == "background":
        up, down = jnp.asarray(1 + NORM), jnp.asarray(1 - NORM)
        variations.append(Normalisation(up=up, down=down, name="background_norm"))
    factors = ("mu",) if name == "signal" else ()
    nominal = shifted(slice(0, 0), 0.0)
    return Sample(nominal, tuple(variations), name=name, normfactors=factors)
