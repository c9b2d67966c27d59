"""The configuration of an analysis as frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difana.analysis.options import NetworkOptions, TrainingOptions


@dataclasses.dataclass(frozen=True)
class GeneralConfig:
    """Settings of the whole analysis; see `config_schema` for the meaning of each."""

    measurement: str
    poi: str
    input_path: str | None
    tree: str | None
    luminosity: float
    seed: int
    split: tuple[float, ...]
    identifier: tuple[str, ...]
    stat_errors: bool


@dataclasses.dataclass(frozen=True)
class RegionConfig:
    """One region: the trained one, or one with a fixed variable and binning."""

    name: str
    filter: str | None
    observable: str | None
    variable: str | None
    binning: tuple[float, ...] | None
    flow: str
    where: str = dataclasses.field(compare=False)

    @property
    def trained(self) -> bool:
        """Whether the network is its observable."""
        return self.variable is None


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """One process, or the observed events."""

    name: str
    files: tuple[str, ...]
    tree: str | None
    weight: str
    filter: str | None
    regions: tuple[str, ...]
    signal: bool
    data: bool
    where: str = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a systematic; what its type does not need is None or empty."""

    normalization: float | None = None
    weight: str | None = None
    files: tuple[str, ...] = ()
    tree: str | None = None


@dataclasses.dataclass(frozen=True)
class SystematicConfig:
    """One systematic uncertainty; without ``down`` the up side is mirrored."""

    name: str
    type: str
    samples: tuple[str, ...]
    regions: tuple[str, ...]
    modifier_name: str
    up: Side | None
    down: Side | None
    transform: tuple[tuple[str, str], ...]
    where: str = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class NormFactorConfig:
    """One free factor."""

    name: str
    samples: tuple[str, ...]
    nominal: float
    bounds: tuple[float, ...]
    where: str = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class AnalysisConfig:
    """A checked configuration: every name refers to something, every expression can be parsed.

    Attributes:
        path: The file.
        general: Settings of the whole analysis.
        features: Pairs of name and expression, the inputs of the network.
        regions: The trained region and the fixed ones, in the order of the file.
        samples: Simulated samples and at most one of data.
        systematics: Systematic uncertainties, with the samples and regions that each affects.
        normfactors: Free factors; the parameter of interest is one of them.
        network: The network.
        training: The training.
        echo: The file as plain values, for the record.
    """

    path: Path
    general: GeneralConfig
    features: tuple[tuple[str, str], ...]
    regions: tuple[RegionConfig, ...]
    samples: tuple[SampleConfig, ...]
    systematics: tuple[SystematicConfig, ...]
    normfactors: tuple[NormFactorConfig, ...]
    network: NetworkOptions
    training: TrainingOptions
    echo: Mapping[str, Any]

    @property
    def trained(self) -> RegionConfig:
        """The region whose observable is the network."""
        return next(region for region in self.regions if region.trained)

    @property
    def trained_name(self) -> str:
        """Name of the trained region; empty where there is none."""
        return next((region.name for region in self.regions if region.trained), "")

    @property
    def simulated(self) -> tuple[SampleConfig, ...]:
        """The samples that are not data."""
        return tuple(sample for sample in self.samples if not sample.data)

    @property
    def observed(self) -> SampleConfig | None:
        """The sample of observed events."""
        return next((sample for sample in self.samples if sample.data), None)

    def factors_of(self, sample: str) -> tuple[str, ...]:
        """Return the names of the free factors on a sample."""
        return tuple(factor.name for factor in self.normfactors if sample in factor.samples)
