"""Do the free factors of a configuration fit, and the parameters of interest among them?"""

from __future__ import annotations

import dataclasses

from difana._errors import nearest
from difana.analysis._check_systematics import known
from difana.analysis.config import AnalysisConfig, NormFactorConfig
from difana.config import Node, Problems


def with_normfactors(config: AnalysisConfig, root: Node, problems: Problems) -> AnalysisConfig:
    """Return the configuration with a factor for the parameter of interest."""
    pois, names = config.general.pois, [sample.name for sample in config.simulated]
    signals = tuple(sample.name for sample in config.simulated if sample.signal)
    factors = config.normfactors
    if not factors and signals and len(pois) == 1:
        factors = (NormFactorConfig(name=pois[0], samples=signals, where=str(config.path)),)
    for factor in config.normfactors:
        line = factor.where
        known(factor.samples, names, f"NormFactor '{factor.name}'", line, problems)
        regions = [region.name for region in config.regions]
        known(factor.regions, regions, f"NormFactor '{factor.name}'", line, problems)
        if not factor.bounds[0] <= config.start_of(factor) <= factor.bounds[1]:
            problems.add(line, f"NormFactor '{factor.name}': Nominal lies outside Bounds")
    start = config.samples[0].where if config.samples else root.line_of("Samples")
    for poi in pois:
        own: NormFactorConfig | None = next((f for f in factors if f.name == poi), None)
        if own is not None:
            _check_poi(config, own, problems)
            continue
        line, text = start, "no sample is signal: give one 'Signal: true'"
        if factors or len(pois) > 1:
            hint = nearest(poi, [factor.name for factor in factors])
            text = f"POI '{poi}' is none of the NormFactors.{hint}"
            if len(pois) > 1:
                line = root.line_of("General.POI")
                text += " Of several, each needs one: its samples say which signal it multiplies"
        problems.add(line, text)
    config = dataclasses.replace(config, normfactors=factors)
    if any(factor.name in pois for factor in factors):
        _check_signals(config, start, problems)
    _check_choices(config, root, problems)
    return config


def _check_poi(config: AnalysisConfig, own: NormFactorConfig, problems: Problems) -> None:
    """Check bounds and regions of a parameter of interest."""
    poi = own.name
    if not own.bounds[0] <= 0 < own.bounds[1]:
        text = f"the Bounds of the POI '{poi}' are {list(own.bounds)}: they must hold 0, no signal"
        problems.add(own.where, f"{text}, and values above: limits lie there")
    trained = [region.name for region in config.trained]
    if own.regions and trained and not set(own.regions) & set(trained):
        listed = ", ".join(f"'{name}'" for name in trained)
        text = f"the POI '{poi}' does not act in a trained region (there is {listed})"
        problems.add(own.where, f"{text}: add it to its Regions, or leave them out")


def _check_signals(config: AnalysisConfig, start: int | str, problems: Problems) -> None:
    """Check that signal is what the parameters of interest multiply, each sample by one."""
    pois = config.general.pois
    listed = ", ".join(f"'{poi}'" for poi in pois)
    missing = f"the POI {listed} does not multiply it"
    if len(pois) > 1:
        missing = f"none of the POIs {listed} multiplies it"
    left = []
    for sample in config.simulated:
        own = [f.name for f in config.normfactors if f.name in pois and sample.name in f.samples]
        if sample.signal and not own:
            problems.add(sample.where, f"sample '{sample.name}' is signal, but {missing}")
        if len(own) > 1:
            both = " and ".join(f"'{name}'" for name in own)
            text = f"sample '{sample.name}' is multiplied by the POIs {both}: by one at most"
            problems.add(sample.where, text)
        if not own:
            left.append(sample.name)
    if not left:
        problems.add(start, f"all samples are signal (multiplied by {listed}): add a background")


def _check_choices(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    """Check what names one of the parameters of interest."""
    pois = config.general.pois
    if (asked := config.training.objective_poi) is not None:
        line = root.line_of("Training.ObjectivePOI")
        known((asked,), pois, "Training.ObjectivePOI", line, problems)
    for region in config.regions:
        if region.poi is None:
            continue
        what = f"'POI' of region '{region.name}'"
        if not region.trained:
            problems.add(region.where, f"{what}: the region is not trained, leave it out")
            continue
        known((region.poi,), pois, what, region.where, problems)
        if region.poi in pois and region.poi not in config.pois_in(region):
            problems.add(region.where, f"{what}: '{region.poi}' multiplies no sample there")
