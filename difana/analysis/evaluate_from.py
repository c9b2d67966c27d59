"""The networks and edges of a finished run on other data, systematics or regions: no training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from difana._errors import ConfigError, InputError
from difana.analysis._parts import inner_folders
from difana.analysis.candidates import Observable
from difana.analysis.conclude import conclude
from difana.analysis.config import AnalysisConfig, FoldsConfig
from difana.analysis.efficient_score import efficient_score_of
from difana.analysis.folds import CrossFitted, cross_fitted
from difana.analysis.load import Loaded, load
from difana.analysis.optimised import Optimised
from difana.analysis.read import read_config
from difana.analysis.result import AnalysisResult
from difana.analysis.settle import settled
from difana.analysis.trained import Trained, trained_of
from difana.config import Journal, held_folder
from difana.config.declare import camel
from difana.losses import ScorePlan


def evaluate_from(
    result: str | Path,
    config_path: str | Path,
    out: str | Path,
    *,
    progress: bool = True,
    report: Callable[[AnalysisResult], Any] | None = None,
    allow_code: bool = False,
) -> AnalysisResult:
    """Evaluate the networks and bin edges of a finished run in another configuration.

    Nothing is trained: data, blinding, systematics, regions, selections, samples, luminosity and
    names may be others. Features, particles, network and parameter of interest are those that the
    networks were made for, and so is what decides which events are in the test split: events that
    they were trained on must not enter.

    Args:
        result: A folder that `run` (or this function) wrote.
        config_path: The YAML file. Of its section ``Training`` only ``Constraints`` count.
        out: Folder of the new result, with all files of `run`.
        progress: Say on standard error what is done.
        report: Called with the result while the folder still is held, to add to it.
        allow_code: Import code that the file or the result names, as in `read_config`.

    Returns:
        The result; its notes say where networks and edges are from.

    Raises:
        ConfigError: If the configuration is wrong, or the networks are made for another: all that
            differs, with both values.
        InputError: If the folder holds no result, a file in it is damaged or of another run, or an
            input is bad.
        ModelError: If no model can be made of the templates.

    Example:
        >>> evaluate_from("nowhere", "analysis.yaml", "out")
        Traceback (most recent call last):
        difana._errors.InputError: no result in 'nowhere': there is no file result.json...
    """
    journal = Journal(speak=progress)
    trained = trained_of(result, allow_code=allow_code)
    config, _ = settled(read_config(config_path, allow_code=allow_code), like=trained.config)
    if config.grid is not None or trained.config.grid is not None:
        raise ConfigError(f"{config.path}: a Grid is evaluated by 'difana run' alone")
    check_fit(trained.config, config)
    inner = inner_folders(config.folds, len(config.trained))
    with held_folder(out, inner=("checkpoints", "hepdata", *inner)) as folder:
        if folder.resolve() == Path(result).resolve():
            raise InputError(f"'{out}' holds the networks themselves: give another folder")
        (folder / "stages.json").unlink(missing_ok=True)  # of trainings that are not this one
        journal.begin("read", f"reading {len(config.samples)} samples")
        loaded = load(config)
        loaded = dataclasses.replace(loaded, notes=(*loaded.notes, *_notes(trained, config)))
        optimised = _all_measured_anew(trained.optimised, loaded)
        found = conclude(config, loaded, optimised, folder=folder, journal=journal)
        if report is not None:
            report(found)
    return found


def _all_measured_anew(found: Optimised | CrossFitted, loaded: Loaded) -> Optimised | CrossFitted:
    """Return what was trained, measured anew, in each fold where there are folds."""
    if isinstance(found, Optimised):
        return _measured_anew(found, loaded)
    pairs = zip(found.folds, loaded.folds, strict=True)
    return cross_fitted(tuple(_measured_anew(own, part) for own, part in pairs))


def _measured_anew(optimised: Optimised, loaded: Loaded) -> Optimised:
    """Return the networks with the information of this analysis, which bins are measured against.

    Networks know the scores of the nuisances that they were trained with: those that only scale
    may be others, of those that change shapes the information is not known.
    """
    optimised = _in_regions(optimised, [own.name for own in loaded.regions])
    scores = []
    for score, own in zip(optimised.scores, loaded.regions, strict=False):  # or there are none
        plan = ScorePlan.of(own.train, pois=own.pois, strength=score.plan.strength)
        if dataclasses.replace(plan, scaled=()) != dataclasses.replace(score.plan, scaled=()):
            return dataclasses.replace(optimised, scores=())
        try:
            scores.append(efficient_score_of(score.nets, own.train, plan=plan))
        except InputError:  # information without an inverse
            return dataclasses.replace(optimised, scores=())
    return dataclasses.replace(optimised, scores=tuple(scores))


def _in_regions(optimised: Optimised, names: Sequence[str]) -> Optimised:
    """Return the observables in these regions; the only one may have had another name."""

    def moved(observables: Sequence[Observable]) -> tuple[Observable, ...]:
        if len(names) == 1:
            return (dataclasses.replace(observables[0], region=names[0]),)
        return tuple(observables)

    return dataclasses.replace(
        optimised,
        observables=moved(optimised.observables),
        candidates=tuple(
            dataclasses.replace(own, observables=moved(own.observables))
            for own in optimised.candidates
        ),
    )


def check_fit(trained: AnalysisConfig, config: AnalysisConfig) -> None:
    """Check that networks were made for a configuration.

    Raises:
        ConfigError: Names all that differs.
    """
    problems = [
        f"{what} is {_shown(now)}, the networks were made for {_shown(was)}"
        for what, was, now in _needed(trained, config)
        if was != now
    ]
    problems += [
        f"{what} is {_shown(now)}, of the training {_shown(was)}: events that the networks were "
        "trained on would be in the test"
        for what, was, now in _splitting(trained, config)
        if was != now
    ]
    if problems:
        listed = "".join(f"\n  {text}" for text in problems)
        raise ConfigError(f"{config.path} does not fit the trained networks:{listed}")


Pair = tuple[str, Any, Any]


def _needed(trained: AnalysisConfig, config: AnalysisConfig) -> Iterator[Pair]:
    """Yield what the networks need: what it is, its value in the training, and now."""
    yield "Features", trained.columns, config.columns
    yield "Particles.Channels", trained.channels, config.channels
    if trained.particles is not None and config.particles is not None:
        yield "Particles.Maximum", trained.particles.maximum, config.particles.maximum
        yield "Particles.OrderBy", trained.particles.leading, config.particles.leading
    for field in dataclasses.fields(config.network):
        was, now = (getattr(own.network, field.name) for own in (trained, config))
        yield f"Network.{camel(field.name)}", was, now
    cuts = ([str(cut) for cut in own.cuts] for own in (trained, config))
    yield ("Cuts", *map(tuple, cuts))
    yield "General.POI", trained.general.pois, config.general.pois
    yield "trained Regions", _names(trained), _names(config)


def _names(config: AnalysisConfig) -> tuple[str, ...]:
    """Return what tells the trained regions apart: their names, where there are several."""
    names = tuple(region.name for region in config.trained)
    return names if len(names) > 1 else ("one",)


def _splitting(trained: AnalysisConfig, config: AnalysisConfig) -> Iterator[Pair]:
    """Yield what decides on the part of an event, in the same way."""
    for name in ("seed", "split", "identifier"):
        was, now = (getattr(own.general, name) for own in (trained, config))
        yield f"General.{camel(name)}", was, now


def _notes(trained: Trained, config: AnalysisConfig) -> list[str]:
    """Return where networks and edges are from, and what is not wrong but worth a look."""
    before = trained.config
    source = f"those of the run '{before.general.measurement}' ({trained.digest})"
    found = [f"nothing was trained: networks and bin edges are {source}"]
    pairs: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("feature", dict(before.features), dict(config.features))
    ]
    if before.particles is not None and config.particles is not None:
        was, now = (dict(own.channels) for own in (before.particles, config.particles))
        pairs.append(("particle channel", was, now))
    for what, was, now in pairs:
        found += [
            f"{what} '{name}' is '{text}', in the training it was '{was[name]}': it must mean the "
            "same"
            for name, text in now.items()
            if was[name] != text
        ]
    return found


def _shown(value: Any) -> str:
    if isinstance(value, FoldsConfig):
        return f"{value.folds} folds"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
