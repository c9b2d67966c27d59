"""Do the parts of a configuration fit together? Names, types, signal and background."""

from __future__ import annotations

import dataclasses
import itertools
import re

from difana._errors import ConfigError
from difana.analysis._check_blinding import with_blinding
from difana.analysis._check_categories import with_categories
from difana.analysis._check_cuts import check_cuts
from difana.analysis._check_factors import with_normfactors
from difana.analysis._check_grid import check_grid
from difana.analysis._check_systematics import (
    check_modifiers,
    check_transform,
    known,
    parameters,
    with_luminosity,
    with_targets,
)
from difana.analysis.config import AnalysisConfig, SampleConfig
from difana.analysis.hepdata import table_file, yields_title
from difana.analysis.network import kind_of
from difana.analysis.own_code import with_code
from difana.config import Node, Problems, is_code

_MOST_WEIGHTS = 50_000_000


def check_references(
    config: AnalysisConfig, root: Node, problems: Problems, *, allow_code: bool = False
) -> AnalysisConfig:
    """Note what does not fit together; return the configuration with defaults made explicit.

    Args:
        config: The configuration.
        root: Its values with their places.
        problems: Takes what is wrong.
        allow_code: Whether code that it names may be imported.
    """
    if not config.features and config.particles is None and "Particles" not in root.value:
        problems.add(1, "missing section 'Features' (or 'Particles')")
    if problems:  # references to entries that could not be read would only confuse
        return config
    config = with_categories(config, problems)
    _check_regions(config, root, problems)
    _check_samples(config, root, problems)
    config = with_blinding(config, root, problems)
    _check_names(config, root, problems)
    _check_particles(config, root, problems)
    _check_network(config, root, problems)
    check_cuts(config, problems)
    config = with_normfactors(config, root, problems)
    if not problems:
        _check_trained(config, problems)
    check_grid(config, root, problems)
    config = with_luminosity(config, root, problems)
    systematics = tuple(with_targets(config, entry, problems) for entry in config.systematics)
    config = dataclasses.replace(config, systematics=systematics)
    for entry in systematics:
        check_transform(config, entry, problems)
    check_modifiers(config, problems)
    _check_constraints(config, root, problems)
    _check_labels(config, root, problems)
    return with_code(config, root, problems, allowed=allow_code)


def _check_regions(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    for region in config.regions:
        line = region.where
        where = f"region '{region.name}'"
        if region.variable is None:
            if region.binning is not None:
                text = f"{where} has 'Binning' but no 'Variable'; the bins of a network are trained"
                problems.add(line, f"{text} (Bins)")
            continue
        if region.observable is not None:
            problems.add(line, f"{where} has both 'Observable' and 'Variable': choose one")
        elif region.binning is None:
            problems.add(line, f"{where} has a 'Variable' but no 'Binning'")
        if region.bins is not None:
            text = f"{where} has 'Bins', a number for a network, and a 'Variable'"
            problems.add(line, f"{text}: give the edges (Binning)")
    if not config.trained:
        text = "no region is trained: leave 'Variable' and 'Binning' out of at least one"
        line = config.regions[0].where if config.regions else root.line_of("Regions")
        problems.add(line, text)


def _check_trained(config: AnalysisConfig, problems: Problems) -> None:
    """Check that each trained region has a signal and a background to tell apart."""
    for region in config.trained:
        expected = config.expected_in(region)
        factors = [config.factors_of(sample.name, region.name) for sample in expected]
        signal = [bool(set(config.general.pois) & set(own)) for own in factors]
        missing = [
            word
            for word, there in (("signal", any(signal)), ("background", not all(signal)))
            if not there
        ]
        if missing:
            text = f"region '{region.name}' is trained, and no {missing[0]} is expected in it"
            problems.add(region.where, f"{text}: inspect Regions of Samples and NormFactors")


def _check_names(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    """Check that no two names become the same file or parameter; before the training, not after."""
    seen: dict[str, str] = {}
    for region in config.regions:
        file = table_file(yields_title(region.name, "postfit"))
        other = seen.setdefault(file, region.name)
        if other != region.name:
            problems.add(
                region.where,
                f"the names of the regions '{other}' and '{region.name}' are too alike: the tables "
                f"of both would be written to hepdata/{file}. Let them differ in letters a-z or "
                "digits, within the first 40",
            )
    own = {f"staterror_{region.name}": region.name for region in config.regions}
    names = [(factor.where, factor.name) for factor in config.normfactors]
    names += [
        (entry.where, name)
        for entry in config.systematics
        for name in dict.fromkeys(parameters(config, entry).values())
    ]
    for where, parameter in names:
        if parameter in own:
            text = f"the name '{parameter}' is that of the statistical uncertainties of region "
            problems.add(where, f"{text}'{own[parameter]}': choose another one")
    if any(entry.type == "Transform" for entry in config.systematics):
        for name, _ in config.features:
            if name == "alpha":
                text = "a feature 'alpha' would hide the parameter 'alpha' of Transform: rename it"
                problems.add(root.line_of("Features"), text)


def _check_particles(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    """Check the names of the channels."""
    if config.particles is None:
        return
    names = [name for name, _ in config.particles.channels]
    if config.particles.order_by is not None:
        line = root.line_of("Particles.OrderBy")
        known((config.particles.order_by,), names, "Particles.OrderBy", line, problems)
    for name in names:
        if name == "alpha" or name in dict(config.features):
            taken = "the parameter 'alpha' of Transform" if name == "alpha" else "one of Features"
            text = f"the particle channel '{name}' has the name of {taken}: rename it"
            problems.add(root.line_of("Particles.Channels"), text)


def _check_network(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    cloud, hidden = config.particles, config.network.hidden
    if config.training.trees and not config.features:
        text = "Training.Trees needs Features: boosted trees see no particles"
        problems.add(root.line_of("Training.Trees"), text)
    named = config.network.type is not None and is_code(config.network.type)
    if config.network.options and not named:
        text = "Network.Options are those of code of yours: give its Type, 'module:name'"
        problems.add(root.line_of("Network.Options"), text)
    try:
        kind_of(config.network, particles=cloud is not None)
    except ConfigError as error:
        problems.add(root.line_of("Network.Type"), str(error))
    own = [len(config.features) + (0 if cloud is None else config.network.latent), *hidden, 1]
    inner = [] if cloud is None else [len(cloud.channels), *hidden, config.network.latent]
    weights = sum(a * b for widths in (own, inner) for a, b in itertools.pairwise(widths))
    if weights > _MOST_WEIGHTS:
        text = f"Network.Hidden asks for {weights:.3g} weights; at most {_MOST_WEIGHTS:.3g} fit"
        problems.add(root.line_of("Network.Hidden"), f"{text} into the memory of a training")


def _check_samples(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    regions = [region.name for region in config.regions]
    template = config.general.input_path or ""
    for field in re.findall(r"{([^}]*)}", template):
        if field not in ("Files", "Sample"):
            text = f"General.InputPath has '{{{field}}}'; known are {{Files}} and {{Sample}}"
            problems.add(root.line_of("General.InputPath"), text)
    for sample in config.samples:
        line = sample.where
        known(sample.regions, regions, f"sample '{sample.name}'", line, problems)
        if not sample.files and not ("{Sample}" in template and "{Files}" not in template):
            problems.add(line, f"missing key 'Files' in sample '{sample.name}'")
        forbidden = {"Signal": sample.signal, "Weight": sample.weight != "1"}
        forbidden |= {"Regions": bool(sample.regions), "FromData": sample.from_data}
        forbidden |= {"RegionFilters": bool(sample.region_filters)}
        for key in [key for key, given in forbidden.items() if given and sample.data]:
            problems.add(line, f"sample '{sample.name}' is data and can have no '{key}'")
        _check_from_data(config, sample, problems)
    observed = [sample for sample in config.samples if sample.data]
    for sample in observed[1:]:
        text = f"sample '{sample.name}' is data, and so is '{observed[0].name}'"
        problems.add(sample.where, f"{text}: list all files in one")


def _check_from_data(config: AnalysisConfig, sample: SampleConfig, problems: Problems) -> None:
    """Check where the events of a background made of data come from."""
    line, what = sample.where, f"sample '{sample.name}'"
    regions = [region.name for region in config.regions]
    named = [name for name, _ in sample.region_filters]
    known(named, regions, f"RegionFilters of {what}", line, problems)
    if sample.subtract and not sample.from_data:
        problems.add(line, f"{what} has 'Subtract' but no 'FromData: true'")
    others = [other.name for other in config.modelled if not other.signal]
    known(sample.subtract, others, f"Subtract of {what}", line, problems)
    if not sample.from_data or sample.data:
        return
    if sample.signal:
        problems.add(line, f"{what} is made of data and cannot be signal")
    for name in sample.regions or regions:
        if name not in named:  # the data of the region itself are what it is compared with
            text = f"{what} is made of data: say of which, by RegionFilters: {{{name}: ...}}"
            problems.add(line, f"{text}, or leave out region '{name}' (Regions)")


def _check_constraints(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    """Check that conditions on nuisances find theirs."""
    asked = config.training.constraints
    given = config.echo.get("Training") or {}
    if "Constraints" in given and not given["Constraints"]:
        problems.add(root.line_of("Training.Constraints"), "Training.Constraints asks for nothing")
    found = [parameters(config, entry).values() for entry in config.systematics]
    names = list(dict.fromkeys(itertools.chain.from_iterable(found)))
    where = "Training.Constraints"
    if asked.nuisance_width is None:
        if asked.nuisances:
            line = root.line_of("Training.Constraints.Nuisances")
            problems.add(line, f"{where} has 'Nuisances' but no 'NuisanceWidth' to hold them to")
        return
    if not names:
        text = f"{where}.NuisanceWidth: there are no Systematics whose width could shrink"
        problems.add(root.line_of("Training.Constraints.NuisanceWidth"), text)
    elif asked.nuisances:
        line = root.line_of("Training.Constraints.Nuisances")
        known(asked.nuisances, names, f"{where}.Nuisances", line, problems)


def _check_labels(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    """Check that each label is one of something."""
    entries = (*config.samples, *config.regions, *config.systematics, *config.normfactors)
    names = [*config.columns, *config.channels, *(entry.name for entry in entries)]
    names += [region.variable for region in config.regions if region.variable is not None]
    names += [name for entry in config.systematics for name in parameters(config, entry).values()]
    names += [] if config.grid is None else [config.grid.parameter]
    for name, _ in config.labels:
        known((name,), names, "Labels", root.line_of(f"Labels.{name}"), problems)
