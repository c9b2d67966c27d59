"""The whole analysis: read, train, bin hard, evaluate on the test split, write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from difana.analysis.changes import changed, read_stages, write_stages
from difana.analysis.conclude import conclude
from difana.analysis.config import AnalysisConfig
from difana.analysis.load import load
from difana.analysis.optimise import optimise
from difana.analysis.read import read_config
from difana.analysis.result import AnalysisResult
from difana.analysis.stages import fingerprint_of, stages_of
from difana.config import Journal, held_folder


def run(
    config_path: str | Path,
    out: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
    mesh: Mesh | None = None,
    report: Callable[[AnalysisResult], Any] | None = None,
) -> AnalysisResult:
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

    All observables are evaluated on the test split; bins of the baselines are chosen on the
    training split. Call `difana.enable_x64` first: the statistical part needs 64 bits.

    Args:
        config_path: The YAML file; see `read_config`.
        out: Folder of the results, made if missing.
        resume: False: delete the checkpoints in the folder and start over.
        progress: Say on standard error what is done; a bar where that is a terminal.
        mesh: Devices to spread the batches over.
        report: Called with the result while the folder still is held, to add to it.

    Returns:
        The result.

    Raises:
        ConfigError: If the configuration is wrong, or no checkpoint can be read.
        InputError: If an input is bad; names the culprit. If another run writes into the folder,
            or the disk is full: what was written stays, and the same call continues.
        ModelError: If no model can be made of the templates.
    """
    journal = Journal(speak=progress)
    config = read_config(config_path)
    with held_folder(out, inner=("checkpoints", "hepdata")) as folder:
        result = _run(config, folder, journal, resume=resume, progress=progress, mesh=mesh)
        if report is not None:
            report(result)
    return result


def _run(
    config: AnalysisConfig,
    folder: Path,
    journal: Journal,
    *,
    resume: bool,
    progress: bool,
    mesh: Mesh | None,
) -> AnalysisResult:
    """Run the analysis in a folder that is held."""
    journal.begin("read", f"reading {len(config.samples)} samples")
    loaded = load(config)
    stages = stages_of(config, loaded)
    said = changed(read_stages(folder) if resume else None, stages)
    write_stages(folder, stages)
    journal.begin("train", said)
    general, training = config.general, config.training
    optimised = optimise(
        loaded.train,
        loaded.validation,
        network=config.network,
        training=training,
        key=jax.random.key(training.seed),
        others=loaded.channels,
        parameters=loaded.parameters,
        poi=general.poi,
        channel=config.trained.name,
        staterror=general.stat_errors,
        directory=folder / "checkpoints",
        resume="same" if resume else False,
        progress_bar=progress,
        fingerprint=fingerprint_of(stages, "classify", "train"),
        mesh=mesh,
    )
    return conclude(config, loaded, optimised, folder=folder, journal=journal)
