"""From configuration to samples: files are read, split, and histogrammed where bins are fixed."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping

import equinox as eqx
import numpy as np

from difana.analysis._fixed import fixed_channel, observed_yields
from difana.analysis._parts import only
from difana.analysis._sources import blame
from difana.analysis.config import AnalysisConfig
from difana.analysis.region_events import RegionEvents, all_region_events
from difana.analysis.templates import ObservedSample, check_channel
from difana.analysis.treatments import treatments_of
from difana.data import Events, Expression, Sample
from difana.likelihood import Channel, Parameter


class Loaded(eqx.Module):
    """The inputs of an analysis.

    Attributes:
        regions: Events of the trained regions, in the order of the configuration.
        channels: Fixed regions, with all events, in the order of the configuration.
        parameters: Settings of the free factors.
        observed_yields: Observed yields by name of the fixed region (static); without those that
            are blinded, and empty without data.
        notes: What the user should know (static).
        folds: The inputs of each fold, none for one split: its test and observed events are those
            of its hash, with weights as they are.
    """

    regions: tuple[RegionEvents, ...]
    channels: tuple[Channel, ...]
    parameters: tuple[Parameter, ...]
    observed_yields: Mapping[str, tuple[float, ...]] = eqx.field(static=True)
    notes: tuple[str, ...] = eqx.field(static=True, default=())
    folds: tuple[Loaded, ...] = ()

    @property
    def train(self) -> tuple[Sample, ...]:
        """Samples for training of the only trained region; with several, ask ``regions``."""
        return self._only.train

    @property
    def validation(self) -> tuple[Sample, ...]:
        """The same for validation."""
        return self._only.validation

    @property
    def test(self) -> tuple[Sample, ...]:
        """The same for the test; all events with folds."""
        return self._only.test

    @property
    def observed(self) -> Events | None:
        """Observed events of the only trained region; None without data, or blinded."""
        return self._only.observed

    @property
    def empty(self) -> tuple[ObservedSample, ...]:
        """Samples of which no event is in the only trained region."""
        return self._only.empty

    @property
    def _only(self) -> RegionEvents:
        return only(self.regions, "trained regions", "regions")


def load(config: AnalysisConfig) -> Loaded:
    """Read all events of an analysis.

    Args:
        config: The configuration.

    Returns:
        Samples of the trained regions in three parts, or in folds, and the channels of the fixed
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
                poi=config.general.interest,
                remedy="Choose another Binning or Filter.",
            )
        for text in treated.notes(channel):
            warnings.warn(text, stacklevel=2)
        channels.append(treated(channel))
    found = all_region_events(config)
    regions = tuple(own for own, _ in found)
    used = {name for own in regions for sample in own.test for name in sample.normfactors} | {
        name for c in channels for t in c.templates for name in t.normfactors
    }
    counts = {}
    if (data := config.observed) is not None:
        counts = {
            region.name: observed_yields(config, data, region)
            for region in fixed
            if region.name not in config.blinded
        }
    loaded = Loaded(
        regions=regions,
        channels=tuple(channels),
        parameters=tuple(
            Parameter(factor.name, init=config.start_of(factor), bounds=(factor.bounds,))
            for factor in config.normfactors
            if factor.name in used  # the others would act on empty templates alone
        ),
        observed_yields=counts,
        notes=tuple(_notes(config)),
    )
    by_fold = zip(*(folds for _, folds in found), strict=True)
    folds = tuple(dataclasses.replace(loaded, regions=own) for own in by_fold)
    return dataclasses.replace(loaded, folds=folds)


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
