"""What each stage of a run depends on, so that a change repeats no more than it must."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from difana._files import jsonable
from difana.analysis.config import AnalysisConfig
from difana.analysis.load import Loaded
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.systematics import modifier_of
from difana.analysis.treatments import treatments_of
from difana.config import digest
from difana.config.declare import camel
from difana.data import Sample, is_signal
from difana.likelihood import HistoSys, NormSys
from difana.losses import ScorePlan

_COMPARED = ("trees",)  # in the table, and nothing that is trained on the objective sees them
_CLASSIFYING = ("start", "seed", "members", "pretrain_steps", "pretrain_batch", "pretrain_rate")


def stages_of(config: AnalysisConfig, loaded: Loaded) -> dict[str, Any]:
    """Return what each stage of `difana.analysis.changes.STAGES` depends on, as JSON values.

    ``classify`` is the training of networks that see no more than events (cross-entropy) and their
    variations of shape (scores), ``train`` the search for bins and the descent on the objective.
    Events and templates are numbered in the hashes, not named, and a change of the configuration
    that changes no number changes none. ``causes`` hashes nothing: settings of which a change
    explains changes of events.

    Args:
        config: The configuration.
        loaded: Its events.
    """
    general = config.general
    seen = [own.observed for own in loaded.regions]
    data = (*seen, [loaded.observed_yields[name] for name in loaded.observed_yields])
    tests = [[_content(sample) for sample in own.test] for own in loaded.regions]
    hidden = [region.name in config.blinded for region in config.regions]
    names = [
        config.columns,
        config.channels,
        [region.name for region in config.regions],
        [sample.name for sample in config.simulated],
        [(entry.modifier_name, entry.decorrelate) for entry in config.systematics],
        [factor.name for factor in config.normfactors],
    ]
    return {
        "classify": _in_all_folds(_seen_by_classifiers, config, loaded),
        "train": _in_all_folds(_seen_by_the_objective, config, loaded),
        "evaluate": [
            ("data", _hash(data)),
            ("blinding", _hash(hidden, general.blind_fit)),
            ("the treatment of templates", _hash(repr(treatments_of(config)))),
            ("test events", _hash(tests)),
            ("a name", _hash(names)),
            *_options(config.training, *_COMPARED),
        ],
        "report": [
            ("the name of the measurement", _hash(general.measurement)),
            *((f"section {name}", _hash(jsonable(part))) for name, part in config.echo.items()),
        ],
        "descends": config.training.steps > 0,
        "causes": {
            "Luminosity": general.luminosity,
            "the split": [config.folds or config.split, general.seed, general.identifier],
            "Features": config.features,
            "Particles": repr(config.particles),
            **{f"Filter of region '{r.name}'": r.filter for r in config.regions},
        },
    }


def _in_all_folds(
    seen: Callable[[AnalysisConfig, Loaded], Iterator[tuple[str, str]]],
    config: AnalysisConfig,
    loaded: Loaded,
) -> list[tuple[str, str]]:
    """Return what a training depends on, the hashes of all folds in one."""
    if not loaded.folds:
        return [*seen(config, loaded)]
    rows = zip(*(seen(config, own) for own in loaded.folds), strict=True)
    return [(same[0][0], _hash([part for _, part in same])) for same in rows]


def fingerprint_of(stages: Mapping[str, Any], *names: str) -> str:
    """Return one hash of what stages depend on, without the names of the parts."""
    return _hash([part for name in names for _, part in stages[name]])


def _seen_by_classifiers(config: AnalysisConfig, loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Yield what networks depend on that see events alone, and variations that change shapes."""
    for train, held_out, where in _pairs(loaded):
        signal = [is_signal(train, poi) for poi in config.general.pois]
        yield f"sample '{train.name}'{where}", _hash(_nominal(train), _nominal(held_out), signal)
    if config.training.start == "score":
        plans = [ScorePlan.of(r.train, pois=r.pois) for r in loaded.regions]
        scaling = set.intersection(*(set(plan.scaled) for plan in plans))
        for name, content in _variations(config, loaded).items():
            if name not in scaling:
                yield f"systematic '{name}'", _hash(content)
    for region in config.trained:
        if region.parent:
            yield f"category '{region.name}'", _hash(region.category, region.categories)
    if config.grid is not None:
        places = {sample.name: i for i, sample in enumerate(config.samples)}
        yield "Grid", _hash([(places[p.sample], p.value) for p in config.grid.points])
    yield from _options(config.network)
    yield from _options(config.training, *_CLASSIFYING)
    yield "the version of jax", _hash(jax.__version__)


def _seen_by_the_objective(config: AnalysisConfig, loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Yield what bins and descent depend on, beside what the classifiers do."""
    number, systematics = _Numbers(), _variations(config, loaded)
    factors = [[number[name] for name in train.normfactors] for train, *_ in _pairs(loaded)]
    for i, channel in enumerate(loaded.channels):
        content = []
        for j, template in enumerate(channel.templates):
            content.append(_hash(template.values))
            for modifier in template.modifiers:
                if isinstance(modifier, HistoSys | NormSys):
                    own = systematics.setdefault(modifier.name, [])
                    own.append(_hash(i, j, modifier.kind, modifier))
                else:  # statistical uncertainties have the name of their region
                    free = modifier.kind == "normfactor"
                    content.append(_hash(modifier.kind, modifier, free and number[modifier.name]))
        yield f"region '{channel.name}'", _hash(content)
    for name, content in systematics.items():
        yield f"systematic '{name}'", _hash(content)
    for entry in loaded.parameters:
        yield f"NormFactor '{entry.name}'", _hash(number[entry.name], entry.init, entry.bounds)
    yield "NormFactors", _hash(factors)
    if config.cuts:
        places = [(config.columns.index(c.variable), c.start, c.side, c.width) for c in config.cuts]
        yield "Cuts", _hash(places)
    yield "General.StatErrors", _hash(config.general.stat_errors)
    for region in config.trained:
        if region.bins is not None:
            yield f"Bins of region '{region.name}'", _hash(region.bins)
    own = (field.name for field in dataclasses.fields(config.training))
    yield from _options(config.training, *(name for name in own if name not in _COMPARED))


def _pairs(loaded: Loaded) -> Iterator[tuple[Sample, Sample, str]]:
    """Yield training and held-out samples of all trained regions, and where they are."""
    for own in loaded.regions:
        where = f" in region '{own.name}'" if len(loaded.regions) > 1 else ""
        for train, held_out in zip(own.train, own.validation, strict=True):
            yield train, held_out, where


def _variations(config: AnalysisConfig, loaded: Loaded) -> dict[str, list[Any]]:
    """Return hashes of the variations of training and held-out samples, by parameter."""
    formulas, found = _formulas(config), {}
    for i, (train, held_out, _) in enumerate(_pairs(loaded)):
        for mine, other in zip(train.variations, held_out.variations, strict=True):
            kind = (i, type(mine).__name__, formulas.get(mine.name))
            found.setdefault(mine.name, []).append(_hash(kind, mine, other))
    return found


def _options(section: NetworkOptions | TrainingOptions, *fields: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a section, or some of them."""
    name = type(section).__name__.removesuffix("Options")
    for field in dataclasses.fields(section):
        if not fields or field.name in fields:
            yield f"{name}.{camel(field.name)}", _hash(getattr(section, field.name))


def _formulas(config: AnalysisConfig) -> dict[str, list[tuple[int, str]]]:
    """Return the transformations by parameter, features and channels numbered."""
    places = {name: i for i, name in enumerate((*config.columns, *config.channels))}

    def numbered(match: re.Match[str]) -> str:
        return f"${places[match[0]]}" if match[0] in places else match[0]

    found = {}
    for entry in config.systematics:
        texts = [
            (places[n], re.sub(r"[A-Za-z_]\w*", numbered, text)) for n, text in entry.transform
        ]
        for region in config.trained:
            for sample in entry.samples:
                found[modifier_of(entry, sample=sample, region=region.name)] = texts
    return found


class _Numbers(dict[str, int]):
    """Numbers of names, in the order in which they are first asked for."""

    def __missing__(self, name: str) -> int:
        """Give the next number to a new name."""
        self[name] = len(self)
        return self[name]


def _nominal(sample: Sample) -> tuple[Any, ...]:
    return (sample.nominal, sample.variance_scale)


def _content(sample: Sample) -> tuple[Any, ...]:
    return (_nominal(sample), sample.variations)


def _hash(*content: Any) -> str:
    """Return a hash of arrays and plain values; names in modules do not count."""
    leaves = jax.tree.leaves(content, is_leaf=lambda value: value is None)
    found = hashlib.sha256()
    for leaf in leaves:
        found.update((digest(leaf) if hasattr(leaf, "shape") else repr(leaf)).encode() + b"\0")
    return found.hexdigest()[:16]
