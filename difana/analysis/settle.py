"""What an analysis file leaves open is settled by its events: one split, or folds."""

from __future__ import annotations

import dataclasses

from difana._errors import NothingSelectedError
from difana.analysis._sources import Source
from difana.analysis.config import DEFAULT_SPLIT, AnalysisConfig, FoldsConfig, RegionConfig

FEW = 4000
"""Fewer simulated events of signal or background than this are used in two folds."""


def settled(
    config: AnalysisConfig, *, like: AnalysisConfig | None = None
) -> tuple[AnalysisConfig, tuple[str, ...]]:
    """Return the configuration with a split, and a note where events are few.

    Args:
        config: The configuration.
        like: A configuration that is settled: its split is taken where this one has none.

    Raises:
        InputError: If a file, branch or value is bad.
    """
    if config.general.split is not None:
        return config, ()
    if like is not None:
        return with_split(config, like.split), ()
    rarest = min((_events(config, region) for region in config.trained), default=(FEW, "", ""))
    number, what, where = rarest
    if number >= FEW:
        return with_split(config, DEFAULT_SPLIT), ()
    note = (
        f"only {number} simulated events of {what} are in '{where}': all are tested, in two folds "
        "(General: Split: {Folds: 2}), each through a network trained on the other fold; "
        "Split: [0.5, 0.25, 0.25] would keep one part for the test"
    )
    return with_split(config, FoldsConfig(folds=2)), (note,)


def _events(config: AnalysisConfig, region: RegionConfig) -> tuple[int, str, str]:
    """Return the number of events of signal or background, whatever is rarer, and what it is."""
    counts = {"signal": 0, "background": 0}
    for sample in config.simulated:
        factors = config.factors_of(sample.name, region.name)
        signal = any(poi in factors for poi in config.general.pois)
        kind = "signal" if signal else "background"
        if counts[kind] >= FEW:
            continue
        try:
            counts[kind] += len(Source(config, sample, region).inputs())
        except NothingSelectedError:
            continue
    kind = min(counts, key=lambda name: counts[name])
    return counts[kind], kind, region.name


def with_split(config: AnalysisConfig, split: tuple[float, ...] | FoldsConfig) -> AnalysisConfig:
    """Return the configuration as if its file had this split."""
    written = {"Folds": split.folds} if isinstance(split, FoldsConfig) else list(split)
    echo = {**config.echo, "General": {**config.echo.get("General", {}), "Split": written}}
    general = dataclasses.replace(config.general, split=split)
    return dataclasses.replace(config, general=general, echo=echo)
