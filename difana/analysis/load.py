"""From configuration to samples: files are read, split, and histogrammed where bins are fixed."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from difana._errors import NothingSelectedError
from difana.analysis._fixed import EMPTY, empty_sample, fixed_channel, observed_yields
from difana.analysis._kept import kept_parts
from difana.analysis._sources import (
    Source,
    as_array,
    blame,
    factors,
    systematics_of,
    varied_weights,
)
from difana.analysis.config import AnalysisConfig, FoldsConfig, SampleConfig
from difana.analysis.templates import ObservedSample, check_channel
from difana.analysis.treatments import treatments_of
from difana.data import (
    AbstractVariation,
    Events,
    Expression,
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
from difana.likelihood import Channel, Parameter


class Loaded(eqx.Module):
    """The inputs of an analysis.

    Attributes:
        train: Samples of the trained region for training, each at its full yield; none with folds.
        validation: The same for validation.
        test: The same for the test; all events with folds.
        channels: Fixed regions, with all events, in the order of the configuration.
        parameters: Settings of the free factors.
        observed: Observed events of the trained region; None without data, or blinded.
        observed_yields: Observed yields by name of the fixed region (static); without those that
            are blinded, and empty without data.
        notes: What the user should know (static).
        empty: Samples of which no event is in the trained region (static).
        folds: The inputs of each fold, none for one split: its test and observed events are those
            of its hash, with weights as they are.
    """

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    channels: tuple[Channel, ...]
    parameters: tuple[Parameter, ...]
    observed: Events | None
    observed_yields: Mapping[str, tuple[float, ...]] = eqx.field(static=True)
    notes: tuple[str, ...] = eqx.field(static=True, default=())
    empty: tuple[ObservedSample, ...] = eqx.field(static=True, default=())
    folds: tuple[Loaded, ...] = ()


def load(config: AnalysisConfig) -> Loaded:
    """Read all events of an analysis.

    Args:
        config: The configuration.

    Returns:
        Samples of the trained region in three parts, or in folds, and the channels of the fixed
        regions.

    Raises:
        InputError: If a file, branch, value, sample or bin is bad. Names the line of the
            configuration and the culprit.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        loaded = _load(config)
    for entry in caught:
        if entry.category is not UserWarning:
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)
    # a result names no folder of the machine that made it
    here = f"{config.path.resolve().parent}{os.sep}"
    said = [
        str(entry.message).replace(here, "") for entry in caught if entry.category is UserWarning
    ]
    return dataclasses.replace(loaded, notes=(*loaded.notes, *dict.fromkeys(said)))


def _load(config: AnalysisConfig) -> Loaded:
    fixed = [region for region in config.regions if not region.trained]
    channels, treated = [], treatments_of(config)
    for region in fixed:
        channel = fixed_channel(config, region)
        with blame(region.where):
            check_channel(
                channel,
                np.asarray(region.binning),
                poi=config.general.poi,
                remedy="Choose another Binning or Filter.",
            )
        for text in treated.notes(channel):
            warnings.warn(text, stacklevel=2)
        channels.append(treated(channel))
    parts, empty = _all_parts(config)
    columns = tuple(zip(*parts, strict=True))
    train, validation, test = ((), (), columns[0]) if config.folds else columns
    used = {name for sample in test for name in sample.normfactors} | {
        name for c in channels for t in c.templates for name in t.normfactors
    }
    observed, counts = None, {}
    if (data := config.observed) is not None:
        if config.trained.name not in config.blinded:
            observed = _observed(config, data)
        counts = {
            region.name: observed_yields(config, data, region)
            for region in fixed
            if region.name not in config.blinded
        }
    loaded = Loaded(
        train=train,
        validation=validation,
        test=test,
        channels=tuple(channels),
        parameters=tuple(
            Parameter(factor.name, init=factor.nominal, bounds=(factor.bounds,))
            for factor in config.normfactors
            if factor.name in used  # the others would act on empty templates alone
        ),
        observed=observed,
        observed_yields=counts,
        notes=tuple(_notes(config)),
        empty=tuple(empty_sample(config, sample, config.trained) for sample in empty),
    )
    return _with_folds(config, loaded, columns[1:]) if config.folds else loaded


def _with_folds(
    config: AnalysisConfig, loaded: Loaded, columns: Sequence[tuple[Sample, ...]]
) -> Loaded:
    """Return the inputs with those of each fold, of three columns each."""
    observed: list[Events | None] = [None] * config.folds
    if (events := loaded.observed) is not None and config.observed is not None:
        names = (
            Source(config, config.observed, config.trained).identifiers() if len(events) else None
        )
        seed = config.general.seed
        own = fold_of(events, config.folds, seed=seed, identifiers=names)
        host = jax.tree.map(np.asarray, events)
        observed = [
            jax.tree.map(lambda leaf, inside=own == f: jnp.asarray(leaf[inside]), host)
            for f in range(config.folds)
        ]
    folds = []
    for f, seen in enumerate(observed):
        train, validation, test = columns[3 * f : 3 * f + 3]
        folds.append(
            dataclasses.replace(
                loaded, train=train, validation=validation, test=test, observed=seen
            )
        )
    return dataclasses.replace(loaded, folds=tuple(folds))


def _observed(config: AnalysisConfig, data: SampleConfig) -> Events:
    """Return the observed events of the trained region; none is a result, too."""
    try:
        return Source(config, data, config.trained).inputs()
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
    config: AnalysisConfig,
) -> tuple[list[tuple[Sample, ...]], list[SampleConfig]]:
    """Return the parts of the samples of the trained region, and the samples without events.

    Raises:
        InputError: If no signal or no background is left.
    """
    parts, empty, errors = [], [], []
    for sample in config.simulated:
        try:
            parts.append(_parts(config, sample))
        except NothingSelectedError as error:
            empty.append(sample)
            errors.append(error)
    signal = [is_signal(part[0], config.general.poi) for part in parts]
    if errors and not (any(signal) and not all(signal)):
        raise errors[0]
    for error in errors:
        warnings.warn(f"{error}: {EMPTY}, and it is not trained on", stacklevel=2)
    return parts, empty


def _parts(config: AnalysisConfig, sample: SampleConfig) -> tuple[Sample, ...]:
    """Return one sample of the trained region for training, validation and test.

    With folds the whole sample stands first, then the three of each fold.
    """
    source = Source(config, sample, config.trained)
    nominal = source.inputs()
    variations: list[AbstractVariation] = [
        transformation(
            entry.modifier_name, dict(entry.transform), config.columns, particles=config.channels
        )
        for entry in systematics_of(config, sample, config.trained, "Transform")
    ]
    mirrored: set[str] = set()
    shifted_identifiers = {}
    for entry in systematics_of(config, sample, config.trained, "Files", "Tree"):
        name = entry.modifier_name
        sides = [
            Source(config, sample, config.trained, entry, side)
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
    for entry in systematics_of(config, sample, config.trained, "Normalization"):
        up, down = factors(entry)
        variations.append(
            Normalisation(up=as_array(up), down=as_array(down), name=entry.modifier_name)
        )
    kept, mirrored = kept_parts(source, nominal, variations, mirrored)
    whole = Sample(
        nominal,
        kept,
        name=sample.name,
        normfactors=config.factors_of(sample.name, config.trained.name),
    )
    asked = config.general.split
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


def _notes(config: AnalysisConfig) -> list[str]:
    """Return what the result should say about the inputs."""
    found = []
    for entry in config.systematics:
        changed = {name for name, _ in entry.transform}
        for region in config.regions:
            if region.name not in entry.regions or region.filter is None:
                continue
            both = changed & set(Expression(region.filter).names)
            if both:
                found.append(
                    f"systematic '{entry.name}' changes {sorted(both)} after the Filter of region "
                    f"'{region.name}': events that it moves in or out are not counted"
                )
    return found
