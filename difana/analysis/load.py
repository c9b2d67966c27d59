"""From configuration to samples: files are read, split, and histogrammed where bins are fixed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from difana.analysis._fixed import fixed_channel, observed_yields
from difana.analysis._sources import (
    Source,
    as_array,
    blame,
    factors,
    systematics_of,
    varied_weights,
)
from difana.analysis.config import AnalysisConfig, SampleConfig
from difana.analysis.templates import check_channel
from difana.data import (
    AbstractVariation,
    Events,
    Expression,
    Normalisation,
    Sample,
    ShiftedEvents,
    WeightVariation,
    split,
    transformation,
)
from difana.likelihood import Channel, Parameter


class Loaded(eqx.Module):
    """The inputs of an analysis.

    Attributes:
        train: Samples of the trained region for training, each at its full yield.
        validation: The same for validation.
        test: The same for the test.
        channels: Fixed regions, with all events, in the order of the configuration.
        parameters: Settings of the free factors.
        observed: Observed events of the trained region; None without data.
        observed_yields: Observed yields by name of the fixed region (static); empty without data.
        notes: What the user should know (static).
    """

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    channels: tuple[Channel, ...]
    parameters: tuple[Parameter, ...]
    observed: Events | None
    observed_yields: Mapping[str, tuple[float, ...]] = eqx.field(static=True)
    notes: tuple[str, ...] = eqx.field(static=True, default=())


def load(config: AnalysisConfig) -> Loaded:
    """Read all events of an analysis.

    Args:
        config: The configuration.

    Returns:
        Samples of the trained region in three parts, and the channels of the fixed regions.

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
    said = [str(entry.message) for entry in caught if entry.category is UserWarning]
    return dataclasses.replace(loaded, notes=(*loaded.notes, *dict.fromkeys(said)))


def _load(config: AnalysisConfig) -> Loaded:
    fixed = [region for region in config.regions if not region.trained]
    channels = []
    for region in fixed:
        channel = fixed_channel(config, region)
        with blame(region.where):
            check_channel(
                channel,
                np.asarray(region.binning),
                poi=config.general.poi,
                remedy="Choose another Binning or Filter.",
            )
        channels.append(channel)
    parts = [_three_parts(config, sample) for sample in config.simulated]
    train, validation, test = zip(*parts, strict=True)
    observed, counts = None, {}
    if (data := config.observed) is not None:
        observed = Source(config, data, config.trained).events(dict(config.features))
        counts = {region.name: observed_yields(config, data, region) for region in fixed}
    return Loaded(
        train=train,
        validation=validation,
        test=test,
        channels=tuple(channels),
        parameters=tuple(
            Parameter(factor.name, init=factor.nominal, bounds=(factor.bounds,))
            for factor in config.normfactors
        ),
        observed=observed,
        observed_yields=counts,
        notes=tuple(_notes(config)),
    )


def _three_parts(config: AnalysisConfig, sample: SampleConfig) -> tuple[Sample, ...]:
    """Return one sample of the trained region for training, validation and test."""
    source = Source(config, sample, config.trained)
    features = dict(config.features)
    nominal = source.events(features)
    variations: list[AbstractVariation] = [
        transformation(entry.modifier_name, dict(entry.transform), list(features))
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
        up, down = (side.events(features) for side in (sides[0], sides[-1]))
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
    whole = Sample(
        nominal,
        tuple(variations),
        name=sample.name,
        normfactors=config.factors_of(sample.name),
    )
    with blame(source.where):
        parts = split(
            whole,
            config.general.split,
            seed=config.general.seed,
            identifiers=source.identifiers(),
            shifted_identifiers=shifted_identifiers or None,
        )
    return tuple(_mirrored(part, mirrored) for part in parts)


def _mirrored(sample: Sample, names: set[str]) -> Sample:
    """Return the sample with down sides that mirror the up sides: twice nominal minus up."""
    if not names:
        return sample
    nominal = sample.nominal
    variations = []
    for variation in sample.variations:
        if isinstance(variation, ShiftedEvents) and variation.name in names:
            up = variation.up
            down = Events(
                jnp.concatenate([nominal.features, up.features]),
                jnp.concatenate([2 * nominal.weights, -up.weights]),
                columns=nominal.columns,
            )
            variations.append(dataclasses.replace(variation, down=down))
        else:
            variations.append(variation)
    return dataclasses.replace(sample, variations=tuple(variations))


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
