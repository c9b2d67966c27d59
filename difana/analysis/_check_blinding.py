"""Do the blinded regions exist, and can their events be kept out of everything?"""

from __future__ import annotations

import dataclasses

from difana.analysis._check_systematics import known
from difana.analysis.config import AnalysisConfig, SampleConfig
from difana.config import Node, Problems


def with_blinding(config: AnalysisConfig, root: Node, problems: Problems) -> AnalysisConfig:
    """Return the configuration with backgrounds made of data that leave blinded regions out."""
    general, line = config.general, root.line_of("General.Blind")
    if not isinstance(general.blind, bool):
        names = [region.name for region in config.regions]
        known(general.blind, names, "General.Blind", line, problems)
    if general.blind_fit == "control" and general.blind and not config.control_fit:
        has_data = any(sample.data for sample in config.samples)
        why = "all regions are blinded: name some in 'Blind'" if has_data else "no sample is data"
        text = f"General.BlindFit is 'control', but {why}, or choose 'prefit'"
        problems.add(root.line_of("General.BlindFit"), text)
    samples = tuple(
        _elsewhere(config, sample, problems) if sample.from_data else sample
        for sample in config.samples
    )
    return dataclasses.replace(config, samples=samples)


def _elsewhere(config: AnalysisConfig, sample: SampleConfig, problems: Problems) -> SampleConfig:
    """Return a sample made of data without the events of blinded regions."""
    hidden = [region for region in config.regions if region.name in config.blinded]
    for region in hidden:
        if region.filter is None:
            text = f"sample '{sample.name}' is made of data, all of which are in the region"
            text = f"{text} '{region.name}', which is blinded (General: Blind)"
            problems.add(sample.where, f"{text}: give the region a Filter")
    outside = "".join(f" and not ({region.filter})" for region in hidden)
    filters = tuple((name, f"({text}){outside}") for name, text in sample.region_filters)
    return dataclasses.replace(sample, region_filters=filters) if hidden else sample
