"""The configuration of an analysis as frozen dataclasses: what may stand in the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difana.analysis.entries import (
    NormFactorConfig,
    ParticlesConfig,
    PruningConfig,
    RegionConfig,
    SampleConfig,
)
from difana.analysis.grid_options import GridConfig
from difana.analysis.options import CutOptions, NetworkOptions, TrainingOptions
from difana.analysis.systematics import SystematicConfig, by_type
from difana.config import (
    FLAG_OR_TEXTS,
    NUMBER,
    SEED,
    choice,
    either,
    entries,
    expressions,
    filled,
    integer,
    key,
    number,
    numbers,
    section,
    texts_by_name,
)


def _sums_to_one(values: tuple[float, ...]) -> bool:
    return all(value > 0 for value in values) and abs(sum(values) - 1) < 1e-6


DEFAULT_SPLIT = (0.5, 0.25, 0.25)
BLIND_FITS = ("prefit", "control")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldsConfig:
    """Cross-fitting: each event is tested in one fold and trains the networks of the others."""

    folds: int = key(
        "number of folds", integer(2, 20, "each is a training of its own, with events of its own")
    )


_SPLIT = either(
    numbers(
        NUMBER, least=3, most=3, rule=" above 0 that sum to 1, or {Folds: k}", holds=_sums_to_one
    ),
    section(FoldsConfig),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralConfig:
    """Settings of the whole analysis."""

    measurement: str = key("name of the measurement", default="measurement")
    pois: tuple[str, ...] = key(
        "parameter of interest, one of NormFactors; or several, the leading one first",
        name="POI",
        default=("mu",),
    )
    other_pois: str = key(
        "where the other parameters of interest are in the fits for one: fitted (profiled), or "
        "held at their Nominal (fixed)",
        choice("profiled", "fixed"),
        name="OtherPOIs",
        default="profiled",
    )
    input_path: str | None = key(
        "folder of all Files, or a template with {Files} and {Sample}; relative to this file",
        default=None,
    )
    tree: str | None = key("tree of all ROOT files (group of HDF5 files)", default=None)
    luminosity: float = key("factor on all simulated weights", default=1.0)
    seed: int = key("seed of the split, the weights and the batches", SEED, default=0)
    split: tuple[float, ...] | FoldsConfig | None = key(
        "parts of the events for training, validation and test, [0.5, 0.25, 0.25] if left out; or "
        "{Folds: k} for cross-fitting, {Folds: 2} if left out and events are few",
        _SPLIT,
        default=None,
    )
    identifier: tuple[str, ...] = key(
        "branches that name an event (run, event number), for the split; the features if left out",
        default=(),
    )
    luminosity_uncertainty: float = key(
        "relative uncertainty of the luminosity: a Normalization 'luminosity' of all simulation",
        number(least=0.0, below=1.0),
        default=0.0,
    )
    stat_errors: bool = key("include the statistical uncertainty of simulation", default=True)
    negative_bins: str = key(
        "what becomes of negative bins of a sample: set to 0, with a note, or kept",
        choice("clip", "keep"),
        default="clip",
    )
    blind: bool | tuple[str, ...] = key(
        "regions of which no observed event is read; true for all", FLAG_OR_TEXTS, default=False
    )
    blind_fit: str | None = key(
        "where the nuisances of expected limits stand while some regions are blinded: fitted to "
        "the data of the others (control, the default), or where they start (prefit)",
        choice(*BLIND_FITS),
        default=None,
    )
    label: str | None = key(
        "experiment and status on every picture, e.g. ATLAS Internal", default=None
    )
    energy: str | None = key("energy on every picture, e.g. 13.6 TeV", default=None)
    luminosity_label: str | None = key(
        "integrated luminosity on every picture, e.g. 140 fb-1", default=None
    )

    @property
    def poi(self) -> str:
        """The leading parameter of interest."""
        return self.pois[0]

    @property
    def interest(self) -> str | tuple[str, ...]:
        """The parameter of interest, or all where there are several."""
        return self.poi if len(self.pois) == 1 else self.pois


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """A checked configuration: every name refers to something, every expression can be parsed.

    Attributes:
        general: Settings of the whole analysis.
        features: Pairs of name and expression, the inputs of the network.
        particles: Particles that it is given, too.
        cuts: Cuts of the trained regions.
        regions: The trained regions and the fixed ones, in the order of the file.
        samples: Simulated samples and at most one of data.
        systematics: Systematic uncertainties, with the samples and regions that each affects.
        normfactors: Free factors; the parameter of interest is one of them.
        grid: Signals of which each gets limits of its own.
        pruning: Which small variations the final templates leave out.
        labels: Pairs of name and what pictures call it.
        network: The network.
        training: The training.
        path: The file.
        echo: The file as plain values, for the record.
    """

    general: GeneralConfig = key(default=GeneralConfig())
    features: tuple[tuple[str, str], ...] = key(
        "inputs of the network: branches, or expressions by name",
        expressions(listed=True),
        default=(),
    )
    particles: ParticlesConfig | None = key(default=None)
    cuts: tuple[CutOptions, ...] = key(
        "cuts of the trained region whose values are trained", default=()
    )
    regions: tuple[RegionConfig, ...] = key()
    samples: tuple[SampleConfig, ...] = key()
    systematics: tuple[SystematicConfig, ...] = key(
        kind=entries(SystematicConfig, then=by_type), default=()
    )
    normfactors: tuple[NormFactorConfig, ...] = key(name="NormFactors", default=())
    grid: GridConfig | None = key("signals that differ in one parameter", default=None)
    pruning: PruningConfig = key(default=PruningConfig())
    labels: tuple[tuple[str, str], ...] = key(
        "what pictures and tables call features, samples, regions, parameters, e.g. m_jj [GeV]",
        texts_by_name("names"),
        default=(),
    )
    network: NetworkOptions = key(default=NetworkOptions())
    training: TrainingOptions = key(
        kind=section(TrainingOptions, hints={"Seed": "It stands in General."}),
        default=TrainingOptions(),
    )
    path: Path = filled()
    echo: Mapping[str, Any] = filled()

    @property
    def folds(self) -> int:
        """Number of folds; 0 for one split."""
        return self.split.folds if isinstance(self.split, FoldsConfig) else 0

    @property
    def split(self) -> tuple[float, ...] | FoldsConfig:
        """Parts of the events, or folds; where the file says nothing, `settled` looks at them."""
        return self.general.split or DEFAULT_SPLIT

    @property
    def table(self) -> dict[str, str]:
        """Expressions of all columns by name: the features, then variables of cuts alone."""
        own = dict(self.features)
        return own | {cut.variable: cut.variable for cut in self.cuts if cut.variable not in own}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, then of variables that cuts alone see."""
        return tuple(self.table)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the particle channels; empty without particles."""
        return () if self.particles is None else tuple(name for name, _ in self.particles.channels)

    @property
    def trained(self) -> tuple[RegionConfig, ...]:
        """The regions whose observable is a network."""
        return tuple(region for region in self.regions if region.trained)

    def bins_of(self, region: RegionConfig) -> int | str:
        """Return the number of bins that a trained region is to have."""
        return self.training.bins if region.bins is None else region.bins

    def expected_in(self, region: RegionConfig) -> tuple[SampleConfig, ...]:
        """Return the samples that are not data and are expected in a region."""
        return tuple(s for s in self.simulated if not s.regions or region.name in s.regions)

    @property
    def simulated(self) -> tuple[SampleConfig, ...]:
        """The samples that are not data."""
        return tuple(sample for sample in self.samples if not sample.data)

    @property
    def blinded(self) -> tuple[str, ...]:
        """Names of the regions of which no observed event may be read."""
        asked = self.general.blind
        if isinstance(asked, bool):
            return tuple(region.name for region in self.regions) if asked else ()
        return tuple(region.name for region in self.regions if region.name in asked)

    @property
    def modelled(self) -> tuple[SampleConfig, ...]:
        """The samples that are made of simulated events."""
        return tuple(sample for sample in self.simulated if not sample.from_data)

    @property
    def observed(self) -> SampleConfig | None:
        """The sample of observed events; None where all regions are blinded, too."""
        if len(self.blinded) == len(self.regions):
            return None
        return next((sample for sample in self.samples if sample.data), None)

    @property
    def control_fit(self) -> bool:
        """Whether expected limits stand at a fit to the data of the regions not blinded."""
        partly = self.observed is not None and bool(self.blinded)
        return partly and self.general.blind_fit != "prefit"

    def pois_in(self, region: RegionConfig) -> tuple[str, ...]:
        """Return the parameters of interest that act in a region, its own first."""
        acting = {f for s in self.expected_in(region) for f in self.factors_of(s.name, region.name)}
        own = (region.poi, *self.general.pois)
        return tuple(dict.fromkeys(poi for poi in own if poi is not None and poi in acting))

    def start_of(self, factor: NormFactorConfig) -> float:
        """Return the starting value of a free factor."""
        several = len(self.general.pois) > 1 and factor.name in self.general.pois
        otherwise = 0.0 if several else 1.0
        return otherwise if factor.nominal is None else factor.nominal

    def factors_of(self, sample: str, region: str) -> tuple[str, ...]:
        """Return the names of the free factors on a sample in a region."""
        return tuple(
            factor.name
            for factor in self.normfactors
            if sample in factor.samples and (not factor.regions or region in factor.regions)
        )
