"""The whole analysis: read, train, bin hard, evaluate on the test split, write."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from difana._errors import ModelError
from difana.analysis.conditions import Closing, Condition, background_of, judged
from difana.analysis.config import AnalysisConfig
from difana.analysis.hepdata import write_hepdata
from difana.analysis.inference import say
from difana.analysis.load import Loaded, load
from difana.analysis.observables import DIFANA, Expectation, Setting, baselines, expectation
from difana.analysis.optimise import optimise
from difana.analysis.publish import hepdata_tables
from difana.analysis.read import read_config
from difana.analysis.result import AnalysisResult, RegionYields
from difana.analysis.statistics import (
    Final,
    asimov_vector,
    data_vector,
    final_statistics,
)
from difana.analysis.templates import (
    ObservedSample,
    Values,
    is_signal,
    network_scores,
    observe,
    yields,
)
from difana.config import (
    Journal,
    digest,
    git_hash,
    held_folder,
    jsonable,
    versions,
    write_json,
    write_text,
)
from difana.data import Sample
from difana.hist import soft_histogram
from difana.infer import describe
from difana.likelihood import Channel, Model, build_model, to_workspace
from difana.nn import export_network, save_weights

BASELINE = "cross-entropy"


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
    ``history.jsonl``, ``result.json`` and ``timing.json``; ``network.stablehlo``, the network
    without Python (`difana.nn.load_network`), where flatbuffers is installed; ``hepdata/``, yields,
    limits and scan as a HEPData submission. Files are written whole or not at all.
    A killed run that is started again continues from its last checkpoint and ends with the same
    ``result.json``, byte for byte.

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
        ConfigError: If the configuration is wrong, or the checkpoints are of another analysis.
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
    journal.begin("train", "training")
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
        resume=resume,
        progress_bar=progress,
        fingerprint=_fingerprint(loaded),
        mesh=mesh,
    )
    journal.begin("evaluate", "evaluating on the test split")
    setting = Setting(
        region=config.trained.name,
        poi=general.poi,
        bins=training.bins,
        channels=loaded.channels,
        parameters=loaded.parameters,
        staterror=general.stat_errors,
    )
    nominal = [Sample(s.nominal, name=s.name, normfactors=s.normfactors) for s in loaded.train]
    plain = observe(optimised.baseline_net, loaded.test)
    comparison = baselines(observe(optimised.baseline_net, nominal), plain, on=setting)
    test = observe(optimised.net, loaded.test)
    best = expectation(DIFANA, test, np.asarray(optimised.edges), on=setting)
    if not best.limits:
        raise ModelError(f"the trained observable cannot be evaluated: {best.status}")
    edges = np.asarray(best.edges, test[0].nominal.x.dtype)
    channel = setting.channel(test, edges)
    if loaded.empty:
        none = setting.channel(loaded.empty, edges)
        channel = dataclasses.replace(channel, templates=(*channel.templates, *none.templates))
    model = _final_model(setting, channel, best)
    data = _data(config, loaded, model, optimised.net, edges)
    top = 1.25 * best.limits[4]
    final = final_statistics(model, data, top=top, real=config.observed is not None)
    soft = _soft(test, edges, float(optimised.bandwidth))
    soft |= {sample.name: np.zeros(len(edges) - 1) for sample in loaded.empty}
    conditions = judged(
        training.constraints,
        model,
        _closing(channel, soft, general.poi),
        channel=channel.name,
    )
    journal.begin("write", "writing results")
    summary = _summary(config, loaded, optimised, (*comparison, best), final, conditions)
    result = AnalysisResult(
        config=config,
        out=folder,
        summary=jsonable(summary),
        comparison=(*comparison, best),
        model=model,
        data=data,
        statistics=final,
        regions=_regions(config, model, data, final, edges),
        channels=(channel, *loaded.channels),
        history=tuple(optimised.history),
        bandwidth=float(optimised.bandwidth),
        soft=soft,
        conditions=conditions,
        scores={BASELINE: plain, DIFANA: test},
    )
    _write(result, optimised)
    journal.end(folder)
    return result


def _fingerprint(loaded: Loaded) -> str:
    """Return what a resumed training must agree on: every event and fixed yield, no name.

    What else the configuration says of the training stands in its options and in its program.
    """
    return digest((loaded.train, loaded.validation, loaded.channels))


def _final_model(setting: Setting, channel: Channel, best: Expectation) -> Model:
    """Return the model with room for the parameter of interest."""
    parameters = []
    for entry in setting.parameters:
        if entry.name == setting.poi:
            low, high = entry.bounds[0] if entry.bounds else (0.0, 10.0)
            high = max(high, 10.0, 5 * best.limits[4])
            entry = dataclasses.replace(entry, bounds=((min(low, 0.0), high),))
        parameters.append(entry)
    return build_model((channel, *setting.channels), poi=setting.poi, parameters=parameters)


def _data(
    config: AnalysisConfig, loaded: Loaded, model: Model, net: Any, edges: np.ndarray
) -> jax.Array:
    """Return the data of the model: observed, or background-only Asimov data."""
    if loaded.observed is None:
        return asimov_vector(model)
    features = np.asarray(loaded.observed.features)
    scores = network_scores(net, features) if len(features) else np.zeros(0)
    observed = {**loaded.observed_yields}
    counts = yields(Values(scores, np.ones(len(scores))), edges)[0]
    observed[config.trained.name] = tuple(counts.tolist())
    return data_vector(model, np.concatenate([observed[c.name] for c in model.structure.channels]))


def _soft(
    samples: tuple[ObservedSample, ...], edges: np.ndarray, bandwidth: float
) -> dict[str, np.ndarray]:
    """Return soft yields; all samples are padded to one length for one compilation."""
    longest = max(len(sample.nominal.x) for sample in samples)
    found = {}
    for sample in samples:
        padding = (0, longest - len(sample.nominal.x))
        x = jnp.asarray(np.pad(sample.nominal.x, padding, mode="edge"))
        weights = jnp.asarray(np.pad(sample.nominal.weights, padding), x.dtype)
        soft = soft_histogram(x, weights, jnp.asarray(edges), bandwidth=bandwidth)
        found[sample.name] = np.asarray(soft.contents, np.float64)
    return found


def _closing(channel: Channel, soft: dict[str, np.ndarray], poi: str) -> Closing:
    """Return the background of the trained region in soft and in hard bins."""
    names = [t.name for t in channel.templates if not is_signal(t, poi)]
    total = np.sum([soft[name] for name in names], axis=0)
    return Closing(jnp.asarray(total), background_of(channel, poi=poi))


def _regions(
    config: AnalysisConfig, model: Model, data: jax.Array, final: Final, edges: np.ndarray
) -> tuple[RegionYields, ...]:
    """Return the yields of every region, sorted into samples."""
    binnings = {region.name: region.binning for region in config.regions}
    labels = {region.name: region.variable for region in config.regions}
    rows = {"prefit": final.prefit.rows, "postfit": final.postfit.rows}
    poi, observed = config.general.poi, np.asarray(data)
    found = []
    for channel in model.structure.channels:
        own = slice(channel.start, channel.start + channel.bins)
        parts = {t.name: slice(t.start, t.start + channel.bins) for t in channel.templates}
        signals = [
            t.name
            for t in channel.templates
            if any(m.kind == "normfactor" and m.name == poi for m in t.modifiers)
        ]
        by_sample = {
            when: {name: np.asarray(values[part]) for name, part in parts.items()}
            for when, values in rows.items()
        }
        found.append(
            RegionYields(
                name=channel.name,
                xlabel=labels[channel.name] or "network output (logit)",
                edges=np.asarray(binnings[channel.name] or edges, float),
                prefit=by_sample["prefit"],
                postfit=by_sample["postfit"],
                prefit_errors=np.asarray(final.prefit.errors[own]),
                postfit_errors=np.asarray(final.postfit.errors[own]),
                signal={name: np.asarray(final.unit[parts[name]]) for name in signals},
                data=observed[own],
            )
        )
    return tuple(found)


def _summary(
    config: AnalysisConfig,
    loaded: Loaded,
    optimised: Any,
    comparison: tuple[Expectation, ...],
    final: Final,
    conditions: tuple[Condition, ...],
) -> dict[str, Any]:
    """Return the content of ``result.json``: no times, no absolute paths."""
    best = comparison[-1]
    splits = {"train": loaded.train, "validation": loaded.validation, "test": loaded.test}
    uncertainties = np.asarray(final.fit.uncertainties)
    observed = None
    if final.observed is not None:
        own = final.observed
        observed = {
            "limit": own.limits.observed,
            "expected_limits": own.limits.expected,
            "cls": own.cls.observed,
            "significance": own.significance.observed,
            "status": own.significance.status,
        }
    return {
        "status": _status(best, optimised, final),
        "measurement": config.general.measurement,
        "region": config.trained.name,
        "poi": config.general.poi,
        "limits": {
            "expected": best.limits,
            "cls": best.cls,
            "significance": best.significance,
            "status": best.status,
            "observed": observed,
        },
        "edges": best.edges,
        "comparison": [
            {
                "name": entry.name,
                "bins": max(len(entry.edges) - 1, 0),
                "limit": entry.median,
                "limits": entry.limits,
                "cls": entry.cls,
                "significance": entry.significance,
                "edges": entry.edges,
                "status": entry.status,
                "notes": entry.notes,
            }
            for entry in comparison
        ],
        "training": {
            "status": optimised.status,
            "message": optimised.message,
            "bandwidth": optimised.bandwidth,
        },
        "constraints": {
            condition.name: {
                "wanted": condition.wanted,
                "found": condition.found,
                "where": condition.where,
                "met": condition.met,
            }
            for condition in conditions
        },
        "fit": {
            "status": describe(final.fit.status),
            "parameters": {
                name: [value, error]
                for name, value, error in zip(
                    final.fit.names, np.asarray(final.fit.params), uncertainties, strict=True
                )
            },
        },
        "samples": {
            sample.name: {
                "yield": np.sum(np.asarray(sample.nominal.weights, np.float64)),
                "events": {name: len(part[i].nominal) for name, part in splits.items()},
            }
            for i, sample in enumerate(loaded.test)
        }
        | {s.name: {"yield": 0.0, "events": dict.fromkeys(splits, 0)} for s in loaded.empty},
        "notes": [
            *loaded.notes,
            *best.notes,
            *(f"{c}, on the test split" for c in conditions if not c.met),
        ],
        "seed": config.general.seed,
        "config": config.echo,
        "options": {
            "network": dataclasses.asdict(config.network),
            "training": dataclasses.asdict(config.training),
        },
        "versions": versions(),
        "git": git_hash(config.path.resolve().parent),
    }


def _status(best: Expectation, optimised: Any, final: Final) -> str:
    """Return ``ok``, or why the numbers of the trained observable cannot be trusted."""
    found = []
    if optimised.status in ("diverged", "no finite metric"):
        found.append(f"training {optimised.status}: {optimised.message}")
    statuses = {"expected limit": best.status, "fit": say(final.fit.status)}
    if (own := final.observed) is not None:
        statuses |= {"observed limit": own.limits.status, "observed CLs": own.cls.status,
                     "observed significance": own.significance.status}  # fmt: skip
    found += [f"{name}: {text}" for name, text in statuses.items() if text != "ok"]
    return "; ".join(found) or "ok"


def _write(result: AnalysisResult, optimised: Any) -> None:
    """Write everything but the times; ``result.json`` last, so that it stands for the rest."""
    out, measurement = result.out, result.config.general.measurement
    for old in (out / "result.json", *(out / "hepdata").glob("*.yaml")):  # of another run
        old.unlink(missing_ok=True)
    workspace = to_workspace(result.model, result.data, measurement=measurement)
    write_json(out / "workspace.json", workspace)
    save_weights(out / "weights.eqx", optimised.net)
    save_weights(out / "weights_baseline.eqx", optimised.baseline_net)
    _export(result, optimised.net)
    comment = f"{measurement}: written by difana {result.summary['versions']['difana']}."
    resources = {out / "workspace.json": "Likelihood in the JSON format of HistFactory (pyhf)"}
    write_hepdata(out / "hepdata", hepdata_tables(result), comment=comment, resources=resources)
    lines = "".join(json.dumps(jsonable(record)) + "\n" for record in result.history)
    write_text(out / "history.jsonl", lines)
    write_json(out / "result.json", result.summary)


def _export(result: AnalysisResult, net: Any) -> None:
    """Write the network as StableHLO; flatbuffers, which that needs, is optional."""
    features = tuple(name for name, _ in result.config.features)
    notes = {"region": result.summary["region"], "edges": jsonable(result.summary["edges"])}
    try:
        export_network(result.out / "network.stablehlo", net, columns=features, notes=notes)
    except ModuleNotFoundError as error:
        if error.name != "flatbuffers":
            raise
