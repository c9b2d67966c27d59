"""Normalisation only and shape only, event by event: what the training sees of a systematic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array

from difana._errors import InputError
from difana.analysis._sources import Source, as_array, systematics_of
from difana.data import AbstractVariation, Events, Normalisation


def kept_parts(
    source: Source, nominal: Events, variations: Sequence[AbstractVariation], mirrored: set[str]
) -> tuple[tuple[AbstractVariation, ...], set[str]]:
    """Return the variations of a sample with the parts that ``Keep`` leaves, and the mirrored ones.

    Raises:
        InputError: If a side to be scaled has no positive yield.
    """
    entries = systematics_of(source.config, source.sample, source.region, "Weight", "Files", "Tree")
    keep = {entry.modifier_name: entry for entry in entries if entry.keep is not None}
    total = float(np.sum(np.asarray(nominal.weights, np.float64)))
    found = []
    for variation in variations:
        entry = keep.get(variation.name)
        if entry is None or variation.factors() is not None:
            found.append(variation)
            continue
        factors = _factors(variation, total)
        for side, factor in factors.items():
            if not (total > 0 and factor > 0):
                what = f"systematic '{entry.name}', {side.title()}, sample '{source.sample.name}'"
                raise InputError(
                    f"{entry.where}: {what}: its yield is not positive: leave out Keep"
                )
        if entry.keep == "shape":
            found.append(_scaled(variation, {side: 1 / f for side, f in factors.items()}))
            continue
        up, down = factors["up"], factors["down"]
        if variation.name in mirrored:
            down, mirrored = 2 - up, mirrored - {variation.name}
        found.append(Normalisation(up=as_array(up), down=as_array(down), name=variation.name))
    return tuple(found), mirrored


def _factors(variation: AbstractVariation, total: float) -> dict[str, float]:
    """Return the yield of each side over that of nominal."""
    sums: dict[str, float] = {}

    def events(side: str, own: Events) -> Events:
        sums[side] = float(np.sum(np.asarray(own.weights, np.float64)))
        return own

    def weights(side: str, own: Array) -> Array:
        sums[side] = float(np.sum(np.asarray(own, np.float64)))
        return own

    variation.mapped(events, weights)
    return {side: value / total if total > 0 else 0.0 for side, value in sums.items()}


def _scaled(variation: AbstractVariation, by: dict[str, float]) -> AbstractVariation:
    return variation.mapped(
        lambda side, own: own.with_weights(own.weights * by[side]),
        lambda side, own: own * by[side],
    )
