"""Do the categories of regions fit to the samples? Each becomes a region of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from difana.analysis._check_systematics import known
from difana.analysis.config import AnalysisConfig, RegionConfig
from difana.config import Problems


def with_categories(config: AnalysisConfig, problems: Problems) -> AnalysisConfig:
    """Return the configuration with a region for each category, wherever regions are named."""
    by_name = {region.name: region for region in config.regions}
    found: dict[str, list[RegionConfig]] = {}
    for region in config.regions:
        if region.categories:
            _check(config, region, problems)
            found[region.name] = [
                dataclasses.replace(
                    region, name=f"{region.name}_{name}", parent=region.name, category=k
                )
                for k, (name, _) in enumerate(region.categories)
            ]
    if not found:
        return config
    for name, own in found.items():
        for category in own:
            if category.name in by_name:
                text = f"the category '{category.name}' of region '{name}' has the name of a region"
                problems.add(category.where, f"{text}: rename one of them")

    def named(regions: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            name
            for region in regions
            for name in ([own.name for own in found[region]] if region in found else [region])
        )

    general = config.general
    if not isinstance(general.blind, bool):
        general = dataclasses.replace(general, blind=named(general.blind))
    regions = [r for own in config.regions for r in found.get(own.name, [own])]
    samples = [
        dataclasses.replace(
            sample,
            regions=named(sample.regions),
            region_filters=tuple(
                (name, text) for region, text in sample.region_filters for name in named([region])
            ),
        )
        for sample in config.samples
    ]
    return dataclasses.replace(
        config,
        general=general,
        regions=tuple(regions),
        samples=tuple(samples),
        systematics=tuple(
            dataclasses.replace(entry, regions=named(entry.regions)) for entry in config.systematics
        ),
        normfactors=tuple(
            dataclasses.replace(entry, regions=named(entry.regions)) for entry in config.normfactors
        ),
    )


def _check(config: AnalysisConfig, region: RegionConfig, problems: Problems) -> None:
    """Check that each sample of a region is in one category of it."""
    line, what = region.where, f"Categories of region '{region.name}'"
    if not region.trained:
        text = f"{what}: the region has a Variable, and a network defines categories"
        problems.add(line, f"{text}: leave one of them out")
    if len(region.categories) < 2:
        problems.add(line, f"{what}: there is one; a network tells two or more apart")
    expected = [sample.name for sample in config.expected_in(region)]
    places: dict[str, list[str]] = {}
    for name, samples in region.categories:
        known(samples, expected, f"category '{name}' of region '{region.name}'", line, problems)
        for sample in samples:
            places.setdefault(sample, []).append(name)
    for sample, names in places.items():
        if len(names) > 1:
            both = " and ".join(f"'{name}'" for name in names)
            problems.add(line, f"{what}: sample '{sample}' is in {both}; it is of one class")
    for sample in expected:
        if sample not in places:
            problems.add(line, f"{what}: sample '{sample}' is in none: the network needs its class")
