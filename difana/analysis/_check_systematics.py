"""Do the systematics of a configuration fit to its samples and regions, and to each other?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from difana._errors import InputError, nearest
from difana.analysis.config import AnalysisConfig
from difana.analysis.systematics import Side, SystematicConfig, modifier_of
from difana.config import Node, Problems
from difana.data import Expression, transformation

LUMINOSITY = "luminosity"


def known(
    names: Iterable[str], listed: Sequence[str], what: str, line: int | str, problems: Problems
) -> None:
    """Note names that do not exist, with the nearest one."""
    for name in names:
        if name not in listed:
            all_of = ", ".join(f"'{other}'" for other in listed)
            hint = nearest(name, listed) or f" There are {all_of}."
            problems.add(line, f"{what} refers to '{name}', which does not exist.{hint}")


def parameters(config: AnalysisConfig, entry: SystematicConfig) -> dict[tuple[str, str], str]:
    """Return the name of the nuisance parameter by sample and region."""
    samples = entry.samples or tuple(sample.name for sample in config.modelled)
    regions = entry.regions or tuple(region.name for region in config.regions)
    return {
        (sample, region): modifier_of(entry, sample=sample, region=region)
        for sample in samples
        for region in regions
    }


def with_luminosity(config: AnalysisConfig, root: Node, problems: Problems) -> AnalysisConfig:
    """Return the configuration with the uncertainty of the luminosity among its systematics."""
    size = config.general.luminosity_uncertainty
    if not size:
        return config
    where = problems.where(root.line_of("General.LuminosityUncertainty"))
    entry = SystematicConfig(
        name=LUMINOSITY,
        type="Normalization",
        modifier_name=LUMINOSITY,
        up=Side(normalization=size),
        down=Side(normalization=-size),
        transform=(),
        where=where,
    )
    return dataclasses.replace(config, systematics=(*config.systematics, entry))


def with_targets(
    config: AnalysisConfig, entry: SystematicConfig, problems: Problems
) -> SystematicConfig:
    """Return the systematic with the samples and regions that it affects."""
    samples = [sample.name for sample in config.simulated]
    regions = [region.name for region in config.regions]
    modelled = tuple(sample.name for sample in config.modelled)
    line = entry.where
    known(entry.samples, samples, f"systematic '{entry.name}'", line, problems)
    known(entry.regions, regions, f"systematic '{entry.name}'", line, problems)
    return dataclasses.replace(
        entry, samples=entry.samples or modelled, regions=entry.regions or tuple(regions)
    )


def check_transform(config: AnalysisConfig, entry: SystematicConfig, problems: Problems) -> None:
    """Check a transformation, and that the fixed regions it acts on can follow it."""
    if entry.type != "Transform":
        return
    try:
        transformation(
            entry.modifier_name, dict(entry.transform), config.columns, particles=config.channels
        )
    except InputError as error:
        problems.add(entry.where, f"systematic '{entry.name}': {error}")
        return
    changed = {name for name, _ in entry.transform}
    for region in config.regions:
        if region.variable is None or region.name not in entry.regions:
            continue
        if not changed & set(Expression(region.variable).names):
            problems.add(
                entry.where,
                f"systematic '{entry.name}' changes {sorted(changed)}, which Variable "
                f"'{region.variable}' of region '{region.name}' does not use: write the Variable "
                "with names of Features, or leave the region out (Regions: [...])",
            )


def check_modifiers(config: AnalysisConfig, problems: Problems) -> None:
    """Check that a parameter moves one thing in one way."""
    factors = {factor.name for factor in config.normfactors}
    seen: dict[tuple[str, str, str, bool], str] = {}
    for entry in config.systematics:
        line = entry.where
        for (sample, region), name in parameters(config, entry).items():
            if name in factors:
                problems.add(line, f"systematic '{entry.name}' has the name of a NormFactor")
            key = (name, sample, region, entry.type == "Normalization")
            other = seen.setdefault(key, entry.name)
            if other != entry.name:
                text = f"systematics '{other}' and '{entry.name}' both change sample '{sample}'"
                problems.add(line, f"{text} by the parameter '{name}'")
