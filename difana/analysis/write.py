"""The files of a result."""

from __future__ import annotations

import json
from pathlib import Path

from jaxtyping import ArrayLike

from difana.analysis._parts import fold_folders, part_names
from difana.analysis.candidates import Observable
from difana.analysis.folds import CrossFitted
from difana.analysis.hepdata import write_hepdata
from difana.analysis.interests import models_of
from difana.analysis.optimised import Optimised
from difana.analysis.publish import hepdata_tables
from difana.analysis.result import AnalysisResult
from difana.analysis.trees import FILE
from difana.config import jsonable, write_json, write_text
from difana.likelihood import to_workspace
from difana.nn import export_network, save_weights


def write_result(result: AnalysisResult, optimised: Optimised | CrossFitted) -> None:
    """Write everything but the times; ``result.json`` last, so that it stands for the rest."""
    out, measurement = result.out, result.config.general.measurement
    inside = ("", "fold_*/", "region_*/", "fold_*/region_*/")
    of_another_run = [
        *(out / "hepdata").glob("*.yaml"),
        *(old for folder in inside for old in out.glob(f"{folder}weights*.eqx")),
        *(old for folder in inside for old in out.glob(f"{folder}{FILE}")),
    ]
    for old in (out / "result.json", *of_another_run):
        old.unlink(missing_ok=True)
    general = result.config.general
    models = models_of(result.model, general.pois, fixed=general.other_pois == "fixed")
    # one measurement for each parameter of interest, the leading one first
    names = [measurement, *(f"{measurement}_{poi}" for poi in general.pois[1:])]
    specs = [
        to_workspace(model, result.data, measurement=name)
        for model, name in zip(models.values(), names, strict=True)
    ]
    measurements = [spec["measurements"][0] for spec in specs]
    workspace = {**specs[0], "measurements": measurements}
    write_json(out / "workspace.json", workspace)
    crossed = isinstance(optimised, CrossFitted)
    parts = optimised.folds if crossed else (optimised,)
    for name, own in zip(fold_folders(result.config.folds), parts, strict=True):
        _write_networks(result, own, out / name, crossed=crossed)
    comment = f"{measurement}: written by difana {result.summary['versions']['difana']}."
    resources = {out / "workspace.json": "Likelihood in the JSON format of HistFactory (pyhf)"}
    write_hepdata(out / "hepdata", hepdata_tables(result), comment=comment, resources=resources)
    lines = "".join(json.dumps(jsonable(record)) + "\n" for record in result.history)
    write_text(out / "history.jsonl", lines)
    write_json(out / "result.json", result.summary)


def _write_networks(
    result: AnalysisResult, optimised: Optimised, out: Path, *, crossed: bool
) -> None:
    """Write the networks of one training, those of each trained region into its folder."""
    for r, name in enumerate(part_names("region", len(optimised.observables))):
        own, folder = optimised.observables[r], out / name
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / "weights.eqx", own.net)
        save_weights(folder / "weights_baseline.eqx", optimised.baselines[r])
        for one in optimised.candidates:
            save_weights(folder / one.file, one.observables[r].net)
        if optimised.trees:
            write_text(folder / FILE, optimised.trees[r].text)
        edges = own.edges if crossed else result.summary["edges"][own.region]
        _export(result, own, folder, edges)


def _export(result: AnalysisResult, own: Observable, out: Path, edges: ArrayLike) -> None:
    """Write the network as StableHLO; flatbuffers, which that needs, is optional."""
    config, cloud = result.config, result.config.particles
    notes = {"region": own.region, "edges": jsonable(edges)}
    try:
        export_network(
            out / "network.stablehlo",
            own.net,
            columns=config.columns,
            channels=config.channels,
            max_particles=0 if cloud is None else cloud.maximum,
            notes=notes,
        )
    except ModuleNotFoundError as error:
        if error.name != "flatbuffers":
            raise
