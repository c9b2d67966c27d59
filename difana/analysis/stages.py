"""What each stage of a run depends on, so that a change repeats no more than it must."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from difana._files import jsonable
from difana.analysis.config import AnalysisConfig
from difana.analysis.load import Loaded
from difana.analysis.systematics import modifier_of
from difana.analysis.treatments import treatments_of
from difana.config import digest, write_json
from difana.config.declare import camel
from difana.data import Sample, is_signal
from difana.likelihood import HistoSys, NormSys

STAGES = {"train": "training again", "evaluate": "evaluating again", "report": "writing again"}
_EVENTS = ("sample ", "systematic ", "region ", "test events")
_SHOWN = 3  # changes that are named

Parts = list[tuple[str, str]]
"""What a stage depends on: what it is called, and a hash of its content, without names."""


def stages_of(config: AnalysisConfig, loaded: Loaded) -> dict[str, Any]:
    """Return what the training, the evaluation and the report depend on, as JSON values.

    Events and templates are numbered in the hashes, not named, and a change of the configuration
    that changes no number changes none. ``causes`` hashes nothing: settings of which a change
    explains changes of events.

    Args:
        config: The configuration.
        loaded: Its events.
    """
    general = config.general
    data = (loaded.observed, [loaded.observed_yields[name] for name in loaded.observed_yields])
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
        "train": [*_seen_by_training(config, loaded)],
        "evaluate": [
            ("data", _hash(data)),
            ("blinding", _hash(hidden, general.blind_fit)),
            ("the treatment of templates", _hash(repr(treatments_of(config)))),
            ("test events", _hash([_content(sample) for sample in loaded.test])),
            ("a name", _hash(names)),
        ],
        "report": [
            ("the name of the measurement", _hash(general.measurement)),
            *((f"section {name}", _hash(jsonable(part))) for name, part in config.echo.items()),
        ],
        "causes": {
            "Luminosity": general.luminosity,
            "the split": [general.split, general.seed, general.identifier],
            "Features": config.features,
            "Particles": repr(config.particles),
            **{f"Filter of region '{r.name}'": r.filter for r in config.regions},
        },
    }


def fingerprint_of(stages: Mapping[str, Any], stage: str) -> str:
    """Return one hash of what a stage depends on, without the names of its parts."""
    return _hash([part for _, part in stages[stage]])


def changed(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say in one line what changed and from which stage a run goes on.

    Args:
        before: `stages_of` the run before; None where there was none.
        now: `stages_of` this one.

    Example:
        >>> old = {"train": [("sample 's'", "1")], "evaluate": [("data", "2")], "report": []}
        >>> changed(old, {**old, "evaluate": [("data", "3")]})
        'data changed: evaluating again'
        >>> changed(old, {**old, "train": [("sample 'renamed'", "1")]})
        'nothing changed: continuing'
        >>> changed(None, old)
        'training'
    """
    if before is None:
        return "training"
    found = {stage: _differences(before[stage], now[stage]) for stage in STAGES}
    first = next((stage for stage in STAGES if found[stage]), None)
    if first is None:
        return "nothing changed: continuing"
    listed = found[first]
    causes = [
        f"{what} changed"
        for what, value in now.get("causes", {}).items()
        if json.dumps(jsonable(value)) != json.dumps(before.get("causes", {}).get(what))
    ]
    if first == "train" and causes:
        listed = [*causes, *(text for text in listed if not text.startswith(_EVENTS))]
    named = [text for text in listed if not text.startswith("section ")]
    listed = named or listed  # whatever else was changed stands in a section
    if "blinding changed" in listed:  # which shows other data
        listed = [text for text in listed if text != "data changed"]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{', '.join(listed[:_SHOWN])}{more}: {STAGES[first]}"


def read_stages(folder: Path) -> dict[str, Any] | None:
    """Return what the last run in a folder depended on; None where that is not known."""
    try:
        found = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
        parts = [[(str(name), str(part)) for name, part in found[stage]] for stage in STAGES]
        causes = dict(found["causes"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return {**dict(zip(STAGES, parts, strict=True)), "causes": causes}


def write_stages(folder: Path, stages: Mapping[str, Any]) -> None:
    """Write what a run depends on into its folder, before it trains."""
    write_json(folder / "stages.json", stages)


def _seen_by_training(config: AnalysisConfig, loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Yield what the networks and their bins depend on."""
    number = _Numbers()
    formulas = _formulas(config)
    systematics: dict[str, list[Any]] = {}
    for i, (train, held_out) in enumerate(zip(loaded.train, loaded.validation, strict=True)):
        signal = is_signal(train, config.general.poi)
        own = [number[name] for name in train.normfactors]
        yield f"sample '{train.name}'", _hash(_nominal(train), _nominal(held_out), signal, own)
        for mine, other in zip(train.variations, held_out.variations, strict=True):
            kind = (i, type(mine).__name__, formulas.get(mine.name))
            systematics.setdefault(mine.name, []).append(_hash(kind, mine, other))
    for i, channel in enumerate(loaded.channels):
        content = []
        for j, template in enumerate(channel.templates):
            content.append(_hash(template.values))
            for modifier in template.modifiers:
                if isinstance(modifier, HistoSys | NormSys):
                    where = (i, j, modifier.kind, modifier)
                    systematics.setdefault(modifier.name, []).append(_hash(*where))
                else:  # statistical uncertainties have the name of their region
                    free = modifier.kind == "normfactor"
                    content.append(_hash(modifier.kind, modifier, free and number[modifier.name]))
        yield f"region '{channel.name}'", _hash(content)
    for name, content in systematics.items():
        yield f"systematic '{name}'", _hash(content)
    for entry in loaded.parameters:
        yield f"NormFactor '{entry.name}'", _hash(number[entry.name], entry.init, entry.bounds)
    yield "General.StatErrors", _hash(config.general.stat_errors)
    for section in (config.network, config.training):
        for field in dataclasses.fields(section):
            label = f"{type(section).__name__.removesuffix('Options')}.{camel(field.name)}"
            yield label, _hash(getattr(section, field.name))
    yield "the version of jax", _hash(jax.__version__)


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
        for sample in entry.samples:
            name = modifier_of(entry, sample=sample, region=config.trained_name)
            found[name] = texts
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


def _differences(before: Parts, now: Parts) -> list[str]:
    """Return in words how the parts of a stage differ; none if their contents are the same."""
    old, new = ([part for _, part in parts] for parts in (before, now))
    if old == new:
        return []
    was, known = dict(before), {name for name, _ in now}
    found = [f"{name} changed" for name, part in now if name in was and was[name] != part]
    found += [f"{name} is new" for name, part in now if name not in was and part not in old]
    found += [f"{name} is gone" for name, part in before if name not in known and part not in new]
    return found or ["the order of the parts changed"]
