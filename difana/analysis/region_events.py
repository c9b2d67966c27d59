"""The events of one trained region: read, selected, split."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from difana._errors import NothingSelectedError
from difana.analysis._fixed import EMPTY, empty_sample
from difana.analysis._kept import kept_parts
from difana.analysis._sources import (
    Source,
    as_array,
    blame,
    factors,
    systematics_of,
    varied_weights,
)
from difana.analysis.config import AnalysisConfig, FoldsConfig, RegionConfig, SampleConfig
from difana.analysis.templates import ObservedSample
from difana.data import (
    AbstractVariation,
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    WeightVariation,
    fold_of,
    is_signal,
    split,
    split_folds,
    transformation,
)


class RegionEvents(eqx.Module):
    """The events of one trained region.

    Attributes:
        name: Name of the region (static).
        train: Samples for training, each at its full yield; none with folds.
        validation: The same for validation.
        test: The same for the test; all events with folds.
        observed: Observed events; None without data, or blinded.
        empty: Samples of which no event is in the region (static).
        group: Of a category, the region that it is one of; empty elsewhere (static).
        category: Its number; -1 elsewhere (static).
        classes: Of a category, the number of the class of each sample; empty elsewhere (static).
        pois: Parameters of interest that act here (static); the efficient score is for the first.
    """

    name: str = eqx.field(static=True)
    train: tuple[Sample, ...] = ()
    validation: tuple[Sample, ...] = ()
    test: tuple[Sample, ...] = ()
    observed: Events | None = None
    empty: tuple[ObservedSample, ...] = eqx.field(static=True, default=())
    pois: tuple[str, ...] = eqx.field(static=True, default=("mu",))
    group: str = eqx.field(static=True, default="")
    category: int = eqx.field(static=True, default=-1)
    classes: tuple[tuple[str, int], ...] = eqx.field(static=True, default=())


def region_events(
    config: AnalysisConfig, region: RegionConfig
) -> tuple[RegionEvents, tuple[RegionEvents, ...]]:
    """Read the events of a trained region.

    Args:
        config: The configuration.
        region: The region.

    Returns:
        The events, and those of each fold, none for one split: their test and observed events are
        those of their hash, with weights as they are.

    Raises:
        InputError: If a file, branch or value is bad, or no signal or no background is left.
    """
    parts, empty = _all_parts(config, region)
    columns = tuple(zip(*parts, strict=True))
    train, validation, test = ((), (), columns[0]) if config.folds else columns
    observed = None
    if (data := config.observed) is not None and region.name not in config.blinded:
        observed = _observed(config, data, region)
    none = tuple(empty_sample(config, sample, region) for sample in empty)
    acting = {name for sample in columns[0] for name in sample.normfactors}
    pois = tuple(poi for poi in config.pois_in(region) if poi in acting)
    classes = tuple(
        (sample, k) for k, (_, samples) in enumerate(region.categories) for sample in samples
    )
    own = RegionEvents(region.name, train, validation, test, observed, none, pois, classes=classes)
    if not config.folds:
        return own, ()
    seen, folds = _observed_by_fold(config, region, observed), []
    for f, mine in enumerate(seen):
        train, validation, test = columns[1 + 3 * f : 4 + 3 * f]
        folds.append(
            RegionEvents(region.name, train, validation, test, mine, none, pois, classes=classes)
        )
    return own, tuple(folds)


def all_region_events(
    config: AnalysisConfig,
) -> list[tuple[RegionEvents, tuple[RegionEvents, ...]]]:
    """Read the events of all trained regions; categories of one region share them.

    Args:
        config: The configuration.

    Raises:
        InputError: As `region_events`.
    """
    found: dict[Any, tuple[RegionEvents, tuple[RegionEvents, ...]]] = {}
    listed = []
    for region in config.trained:
        key = _same(config, region)
        if key not in found:
            found[key] = region_events(config, region)
        own, folds = found[key]
        said = {"name": region.name, "group": region.parent, "category": region.category}
        named = [dataclasses.replace(one, **said) for one in (own, *folds)]
        listed.append((named[0], tuple(named[1:])))
    return listed


def _same(config: AnalysisConfig, region: RegionConfig) -> Any:
    """Return what two categories have in common whose events and variations are the same."""
    if not region.parent:
        return region.name
    kinds = ("Transform", "Files", "Tree", "Weight", "Normalization")
    samples = tuple(
        (
            sample.name,
            config.factors_of(sample.name, region.name),
            tuple(e.modifier_name for e in systematics_of(config, sample, region, *kinds)),
        )
        for sample in config.expected_in(region)
    )
    return region.parent, region.poi, region.name in config.blinded, samples


def _observed_by_fold(
    config: AnalysisConfig, region: RegionConfig, events: Events | None
) -> list[Events | None]:
    """Return the observed events of each fold, by their hash."""
    if events is None or config.observed is None:
        return [None] * config.folds
    names = Source(config, config.observed, region).identifiers() if len(events) else None
    own = fold_of(events, config.folds, seed=config.general.seed, identifiers=names)
    host = jax.tree.map(np.asarray, events)
    return [
        jax.tree.map(lambda leaf, inside=own == f: jnp.asarray(leaf[inside]), host)
        for f in range(config.folds)
    ]


def _observed(config: AnalysisConfig, data: SampleConfig, region: RegionConfig) -> Events:
    """Return the observed events of a trained region; none is a result, too."""
    try:
        return Source(config, data, region).inputs()
    except NothingSelectedError as error:
        warnings.warn(f"{error}: no event is observed", stacklevel=2)
        particles = mask = None
        if (cloud := config.particles) is not None:
            particles = jnp.zeros((0, cloud.maximum, len(config.channels)), jnp.float32)
            mask = jnp.zeros((0, cloud.maximum), bool)
        return Events(
            jnp.zeros((0, len(config.columns)), jnp.float32),
            jnp.zeros(0),
            particles,
            mask,
            columns=config.columns,
            particle_columns=config.channels,
        )


def _all_parts(
    config: AnalysisConfig, region: RegionConfig
) -> tuple[list[tuple[Sample, ...]], list[SampleConfig]]:
    """Return the parts of the samples of a trained region, and the samples without events.

    Raises:
        InputError: If no signal or no background is left.
    """
    parts, empty, errors = [], [], []
    for sample in config.expected_in(region):
        try:
            parts.append(_parts(config, sample, region))
        except NothingSelectedError as error:
            empty.append(sample)
            errors.append(error)
    signal = [is_signal(part[0], config.general.interest) for part in parts]
    if errors and not (any(signal) and not all(signal)):
        raise errors[0]
    for error in errors:
        warnings.warn(f"{error}: {EMPTY}, and it is not trained on", stacklevel=2)
    return parts, empty


def _parts(
    config: AnalysisConfig, sample: SampleConfig, region: RegionConfig
) -> tuple[Sample, ...]:
    """Return one sample of a trained region for training, validation and test.

    With folds the whole sample stands first, then the three of each fold.
    """
    source = Source(config, sample, region)
    nominal = source.inputs()
    variations: list[AbstractVariation] = [
        transformation(
            entry.modifier_name, dict(entry.transform), config.columns, particles=config.channels
        )
        for entry in systematics_of(config, sample, region, "Transform")
    ]
    mirrored: set[str] = set()
    shifted_identifiers = {}
    for entry in systematics_of(config, sample, region, "Files", "Tree"):
        name = entry.modifier_name
        sides = [
            Source(config, sample, region, entry, side)
            for side in ("up", "down")
            if getattr(entry, side) is not None
        ]
        up, down = (side.inputs() for side in (sides[0], sides[-1]))
        variations.append(ShiftedEvents(up=up, down=down, name=name))
        if config.general.identifier:
            shifted_identifiers[name] = (sides[0].identifiers(), sides[-1].identifiers())
        if entry.down is None:
            mirrored.add(name)
    for name, (up, down) in varied_weights(source).items():
        variations.append(WeightVariation(up=as_array(up), down=as_array(down), name=name))
    for entry in systematics_of(config, sample, region, "Normalization"):
        up, down = factors(entry)
        variations.append(
            Normalisation(up=as_array(up), down=as_array(down), name=entry.modifier_name)
        )
    kept, mirrored = kept_parts(source, nominal, variations, mirrored)
    whole = Sample(
        nominal,
        kept,
        name=sample.name,
        normfactors=config.factors_of(sample.name, region.name),
    )
    asked = config.split
    with blame(source.where):
        named: dict[str, Any] = {
            "seed": config.general.seed,
            "identifiers": source.identifiers(),
            "shifted_identifiers": shifted_identifiers or None,
        }
        if isinstance(asked, FoldsConfig):
            folds = split_folds(whole, asked.folds, **named)
            parts = (whole, *(part for fold in folds for part in fold))
        else:
            parts = split(whole, asked, **named)
    return tuple(_mirrored(part, mirrored) for part in parts)


def _mirrored(sample: Sample, names: set[str]) -> Sample:
    """Return the sample with down sides that mirror the up sides: twice nominal minus up."""
    if not names:
        return sample
    variations = tuple(
        _mirror(variation, sample.nominal) if variation.name in names else variation
        for variation in sample.variations
    )
    return dataclasses.replace(sample, variations=variations)


def _mirror(variation: AbstractVariation, nominal: Events) -> AbstractVariation:
    def events(side: str, own: Events) -> Events:
        if side == "up":
            return own
        up = variation.tables()["up"]
        both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), nominal, up)
        return both.with_weights(jnp.concatenate([2 * nominal.weights, -up.weights]))

    return variation.mapped(events, lambda _, weights: weights)
