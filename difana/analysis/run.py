"""The whole analysis: read, train, bin hard, evaluate on the test split, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from difana.analysis._parts import fold_folders, inner_folders
from difana.analysis.changes import changed, read_stages, write_stages
from difana.analysis.conclude import conclude
from difana.analysis.config import AnalysisConfig
from difana.analysis.folds import Bins, CrossFitted, train_folds
from difana.analysis.grid import run_grid
from difana.analysis.grid_result import GridResult
from difana.analysis.load import Loaded, load
from difana.analysis.optimise import optimise_regions
from difana.analysis.optimised import Optimised
from difana.analysis.read import read_config
from difana.analysis.result import AnalysisResult
from difana.analysis.settle import settled
from difana.analysis.stages import fingerprint_of, stages_of
from difana.config import Journal, held_folder


def run(
    config_path: str | Path,
    out: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
    mesh: Mesh | None = None,
    report: Callable[[Any], Any] | None = None,
    allow_code: bool = False,
) -> AnalysisResult | GridResult:
    """Run the analysis of a configuration file.

    The folder gets ``workspace.json`` (for pyhf), ``weights.eqx`` and ``weights_baseline.eqx``,
    ``history.jsonl``, ``result.json``, ``stages.json`` and ``timing.json``; ``network.stablehlo``,
    the network without Python (`difana.nn.load_network`), where flatbuffers is installed;
    ``hepdata/``, yields, limits and scan as a HEPData submission; ``trees.json``, boosted trees,
    where they are asked for. Files are written whole or not at all.

    A killed run that is started again continues from its last checkpoint and ends with the same
    ``result.json``, byte for byte. Of an analysis that was changed, as little as possible is
    repeated: ``stages.json`` holds hashes of what training, evaluation and report depend on, one
    line says what changed, and what the training does not see trains nothing again.

    Several trained regions have networks and bins of their own (``region_1/weights.eqx``, ...), and
    the limit that they are trained on is that of the simultaneous likelihood.

    All observables are evaluated on the test split; bins of the baselines are chosen on the
    training split. With ``Split: {Folds: k}`` each of k folds has networks and bins of its own
    (``fold_1/weights.eqx``, ...), and the test is all events, each through those of its fold. Call
    `difana.enable_x64` first: the statistical part needs 64 bits.

    With ``Grid`` one network is trained for all signals, and each gets a folder with the files
    above (``point_300``, ...); ``result.json`` then holds the limits of all.

    Args:
        config_path: The YAML file; see `read_config`.
        out: Folder of the results, made if missing.
        resume: False: delete the checkpoints in the folder and start over.
        progress: Say on standard error what is done; a bar where that is a terminal.
        mesh: Devices to spread the batches over.
        report: Called with the result while the folder still is held, to add to it.
        allow_code: Import code that the file names, as in `read_config`.

    Returns:
        The result.

    Raises:
        ConfigError: If the configuration is wrong, or no checkpoint can be read.
        InputError: If an input is bad; names the culprit. If another run writes into the folder,
            or the disk is full: what was written stays, and the same call continues.
        ModelError: If no model can be made of the templates.
    """
    journal = Journal(speak=progress)
    config, said = settled(read_config(config_path, allow_code=allow_code))
    points = () if config.grid is None else tuple(own.folder for own in config.grid.points)
    inner = ("checkpoints", "hepdata", *inner_folders(config.folds, len(config.trained)), *points)
    with held_folder(out, inner=inner) as folder:
        result = _run(
            config, folder, journal, said=said, resume=resume, progress=progress, mesh=mesh
        )
        if report is not None:
            report(result)
    return result


def _run(
    config: AnalysisConfig,
    folder: Path,
    journal: Journal,
    *,
    said: tuple[str, ...],
    resume: bool,
    progress: bool,
    mesh: Mesh | None,
) -> AnalysisResult | GridResult:
    """Run the analysis in a folder that is held."""
    journal.begin("read", f"reading {len(config.samples)} samples")
    loaded = load(config)
    loaded = dataclasses.replace(loaded, notes=(*said, *loaded.notes))
    stages = stages_of(config, loaded)
    news = changed(read_stages(folder) if resume else None, stages)
    write_stages(folder, stages)
    journal.begin("train", news)
    general, fingerprint = config.general, fingerprint_of(stages, "classify", "train")

    training_key = jax.random.key(config.training.seed)
    if config.grid is not None:
        again: Any = "same" if resume else False
        return run_grid(
            config,
            loaded,
            folder=folder,
            journal=journal,
            key=training_key,
            resume=again,
            progress_bar=progress,
            mesh=mesh,
        )

    def fit(own: Loaded, bins: Bins, key: PRNGKeyArray, inside: str) -> Optimised:
        return optimise_regions(
            own.regions,
            network=config.network,
            training=config.training,
            key=key,
            bins=bins,
            others=own.channels,
            parameters=own.parameters,
            poi=general.interest,
            others_fixed=general.other_pois == "fixed",
            staterror=general.stat_errors,
            directory=folder / "checkpoints" / inside,
            resume="same" if resume else False,
            progress_bar=progress,
            fingerprint=fingerprint,
            mesh=mesh,
            cuts=config.cuts,
        )

    bins, key = [config.bins_of(r) for r in config.trained], training_key
    found: Optimised | CrossFitted
    if loaded.folds:
        names = fold_folders(config.folds)

        def fit_fold(own: Loaded, fold: int, bins: Bins) -> Optimised:
            return fit(own, bins, jax.random.fold_in(key, fold), names[fold])

        found = train_folds(loaded, bins, fit_fold)
    else:
        found = fit(loaded, bins, key, "")
    return conclude(config, loaded, found, folder=folder, journal=journal)
