"""The files of a result."""

from __future__ import annotations

import json
from pathlib import Path

from jaxtyping import ArrayLike

from difana._typing import Network
from difana.analysis.folds import CrossFitted, fold_names
from difana.analysis.hepdata import write_hepdata
from difana.analysis.optimise import Optimised
from difana.analysis.publish import hepdata_tables
from difana.analysis.result import AnalysisResult
from difana.analysis.trees import FILE
from difana.config import jsonable, write_json, write_text
from difana.likelihood import to_workspace
from difana.nn import export_network, save_weights


def write_result(result: AnalysisResult, optimised: Optimised | CrossFitted) -> None:
    """Write everything but the times; ``result.json`` last, so that it stands for the rest."""
    out, measurement = result.out, result.config.general.measurement
    of_another_run = [
        *(out / "hepdata").glob("*.yaml"),
        *(old for folder in ("", "fold_*/") for old in out.glob(f"{folder}weights*.eqx")),
        *(old for folder in ("", "fold_*/") for old in out.glob(f"{folder}{FILE}")),
    ]
    for old in (out / "result.json", *of_another_run):
        old.unlink(missing_ok=True)
    workspace = to_workspace(result.model, result.data, measurement=measurement)
    write_json(out / "workspace.json", workspace)
    if isinstance(optimised, CrossFitted):
        for name, own in zip(fold_names(len(optimised.folds)), optimised.folds, strict=True):
            _write_networks(result, own, out / name, own.edges)
    else:
        _write_networks(result, optimised, out, result.summary["edges"])
    comment = f"{measurement}: written by difana {result.summary['versions']['difana']}."
    resources = {out / "workspace.json": "Likelihood in the JSON format of HistFactory (pyhf)"}
    write_hepdata(out / "hepdata", hepdata_tables(result), comment=comment, resources=resources)
    lines = "".join(json.dumps(jsonable(record)) + "\n" for record in result.history)
    write_text(out / "history.jsonl", lines)
    write_json(out / "result.json", result.summary)


def _write_networks(
    result: AnalysisResult, optimised: Optimised, out: Path, edges: ArrayLike
) -> None:
    """Write the networks of one training."""
    out.mkdir(exist_ok=True)
    save_weights(out / "weights.eqx", optimised.net)
    save_weights(out / "weights_baseline.eqx", optimised.baseline_net)
    for own in optimised.candidates:
        save_weights(out / own.file, own.net)
    if optimised.trees is not None:
        write_text(out / FILE, optimised.trees.text)
    _export(result, optimised.net, out, edges)


def _export(result: AnalysisResult, net: Network, out: Path, edges: ArrayLike) -> None:
    """Write the network as StableHLO; flatbuffers, which that needs, is optional."""
    config, cloud = result.config, result.config.particles
    notes = {"region": result.summary["region"], "edges": jsonable(edges)}
    try:
        export_network(
            out / "network.stablehlo",
            net,
            columns=config.columns,
            channels=config.channels,
            max_particles=0 if cloud is None else cloud.maximum,
            notes=notes,
        )
    except ModuleNotFoundError as error:
        if error.name != "flatbuffers":
            raise
