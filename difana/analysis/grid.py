"""A grid of signals: one network that is told the parameter, limits at every point."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from difana._errors import InputError
from difana._status import joined
from difana._typing import Network
from difana.analysis._parts import fold_folders, part_names
from difana.analysis.conclude import conclude
from difana.analysis.config import AnalysisConfig
from difana.analysis.folds import CrossFitted, train_folds
from difana.analysis.grid_options import GridConfig, PointConfig
from difana.analysis.grid_result import GridResult, write_grid
from difana.analysis.load import Loaded
from difana.analysis.members import train_members
from difana.analysis.network import network_for
from difana.analysis.optimise import optimise_regions
from difana.analysis.optimised import Optimised
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.pretrain import pretraining
from difana.analysis.region_events import RegionEvents
from difana.config import Journal, digest
from difana.data import Sample, is_signal, nominal_samples
from difana.losses import Step, parametrised
from difana.nn import MeanOf, Parametrised
from difana.train import TrainResult


def train_on_grid(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    grid: GridConfig,
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    poi: str = "mu",
    checkpoint: Path | None = None,
    **settings: Any,
) -> tuple[Network, tuple[TrainResult, ...]]:
    """Train a network ``f(x, theta)`` on the cross-entropy of all points (arXiv:1601.07913).

    Background events are told the value of a point drawn at random at every step, so that the
    network learns the classifier of each point, and the values in between.

    Args:
        train: Samples to train on.
        validation: Held-out samples.
        grid: The points.
        network: Size of the network.
        training: Members, steps, batch and rate (those that begin with ``pretrain``).
        key: Key of weights, batches and drawn values.
        poi: Parameter of interest; what it multiplies is signal.
        checkpoint: Folder of the checkpoints.
        settings: Further options of `difana.train.fit`.

    Returns:
        The network of features and value side by side, and how each training went.
    """
    train, validation = nominal_samples(train), nominal_samples(validation)
    values = np.array([point.value for point in grid.points])
    theta = {point.sample: np.array([point.value]) for point in grid.points}
    spread = float(values.std())

    @eqx.filter_jit
    def measure(net: Network, held_out: Sequence[Sample]) -> tuple[Array, dict[str, Array]]:
        step = Step.at(key=jax.random.key(0))  # the same values at every validation
        return parametrised(net, held_out, step, theta=theta, poi=poi)

    found = train_members(
        lambda net, batch, step: parametrised(net, batch, step, theta=theta, poi=poi),
        network_for(network, train, mean=np.array([values.mean()]), std=np.array([spread])),
        train,
        validation,
        measure=measure,
        members=training.members,
        training=pretraining(training),
        key=key,
        stage="cross-entropy",
        checkpoint=checkpoint,
        fingerprint=digest(validation),
        **settings,
    )
    nets = tuple(one.trainable for one in found)
    return nets[0] if len(nets) == 1 else MeanOf(nets), found


def run_grid(
    config: AnalysisConfig,
    loaded: Loaded,
    *,
    folder: Path,
    journal: Journal,
    key: PRNGKeyArray,
    **settings: Any,
) -> GridResult:
    """Train one network for all points, and conclude the analysis of each in a folder of its own.

    Args:
        config: The configuration, with a grid.
        loaded: Its events, of all signals.
        folder: The folder of the grid, which is held.
        journal: Says and times what is done.
        key: Key of the trainings.
        settings: Further options of `difana.train.fit`.

    Raises:
        InputError: If a signal has no event in a trained region.
    """
    grid, poi = config.grid, config.general.poi
    assert grid is not None
    training = dataclasses.replace(config.training, start="cross-entropy", steps=0)
    parts, names = loaded.folds or (loaded,), fold_folders(config.folds)
    for own in parts[0].regions:
        _check_signals(own, grid, poi=poi)
    places = part_names("region", len(parts[0].regions))
    trained: list[list[tuple[Network, tuple[TrainResult, ...]]]] = []
    for f, part in enumerate(parts):
        row = []
        for r, own in enumerate(part.regions):
            inside = folder / "checkpoints" / names[f] / places[r] / "grid"
            own_key = jax.random.fold_in(jax.random.fold_in(key, f), r)
            row.append(
                train_on_grid(
                    own.train, own.validation, grid, network=config.network, training=training,
                    key=own_key, poi=poi, checkpoint=inside, **settings,
                )
            )  # fmt: skip
        trained.append(row)
    bins = [config.bins_of(region) for region in config.trained]
    results = []
    for point in grid.points:
        journal.begin("train", f"bins for {grid.parameter} = {point.value:g}")
        own_config, own_events = of_point(config, point), events_of_point(loaded, grid, point)
        theta = jnp.asarray([point.value], jnp.float32)

        def fit(part: Loaded, f: int, bins: Sequence[int | str], theta: Any = theta) -> Optimised:
            found = optimise_regions(
                part.regions,
                network=config.network,
                training=training,
                key=key,
                bins=bins,
                others=part.channels,
                parameters=part.parameters,
                poi=poi,
                staterror=config.general.stat_errors,
                progress_bar=False,
                baselines=[Parametrised(net, theta) for net, _ in trained[f]],
                cuts=config.cuts,
            )
            how = [one for _, own in trained[f] for one in own]
            return dataclasses.replace(
                found,
                history=tuple(record for one in how for record in one.history),
                status=joined([one.status for one in how]),
                diagnosis=" ".join(one.diagnosis for one in how if one.diagnosis),
            )

        optimised: Optimised | CrossFitted
        if own_events.folds:
            optimised = train_folds(own_events, bins, fit)
        else:
            optimised = fit(own_events, 0, bins)
        inside = folder / point.folder
        inside.mkdir(exist_ok=True)
        results.append(conclude(own_config, own_events, optimised, folder=inside, journal=journal))
    result = GridResult(config=config, out=folder, points=tuple(results))
    write_grid(result)
    journal.end(folder)
    return result


def of_point(config: AnalysisConfig, point: PointConfig) -> AnalysisConfig:
    """Return the configuration with one signal of its grid."""
    assert config.grid is not None
    others = {own.sample for own in config.grid.points} - {point.sample}

    def left(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name not in others)

    return dataclasses.replace(
        config,
        samples=tuple(own for own in config.samples if own.name not in others),
        normfactors=tuple(
            dataclasses.replace(own, samples=left(own.samples)) for own in config.normfactors
        ),
        systematics=tuple(
            dataclasses.replace(own, samples=left(own.samples)) for own in config.systematics
        ),
    )


def events_of_point(loaded: Loaded, grid: GridConfig, point: PointConfig) -> Loaded:
    """Return the events of one signal of a grid and of all backgrounds."""
    others = {own.sample for own in grid.points} - {point.sample}

    def left(samples: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(own for own in samples if own.name not in others)

    regions = tuple(
        dataclasses.replace(
            own,
            train=left(own.train),
            validation=left(own.validation),
            test=left(own.test),
            empty=left(own.empty),
        )
        for own in loaded.regions
    )
    channels = tuple(
        dataclasses.replace(own, templates=left(own.templates)) for own in loaded.channels
    )
    used = {name for own in regions for part in own.test for name in part.normfactors}
    used |= {name for own in channels for t in own.templates for name in t.normfactors}
    return dataclasses.replace(
        loaded,
        regions=regions,
        channels=channels,
        parameters=tuple(own for own in loaded.parameters if own.name in used),
        folds=tuple(events_of_point(own, grid, point) for own in loaded.folds),
    )


def _check_signals(own: RegionEvents, grid: GridConfig, *, poi: str) -> None:
    """Refuse a trained region without events of a point."""
    found: Mapping[str, Any] = {s.name: s for s in own.train if is_signal(s, poi)}
    for point in grid.points:
        if point.sample not in found:
            raise InputError(
                f"{point.where}: no event of the signal '{point.sample}' is selected in region "
                f"'{own.name}'"
            )
