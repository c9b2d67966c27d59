"""The configured unfolding: read, unfold, histogram, write."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from difana._errors import ConfigError, InputError
from difana._numerics import safe_divide
from difana.analysis._write import git_hash, held_folder, versions, write_json
from difana.data import read_identifiers
from difana.unfold.bayes import bayes
from difana.unfold.config import UnfoldingConfig, read_unfolding
from difana.unfold.dataset import save_dataset
from difana.unfold.estimator import OmniFold
from difana.unfold.flow import FlowUnfolding
from difana.unfold.inversion import invert
from difana.unfold.likelihood import fit_truth
from difana.unfold.positive import positive_weights
from difana.unfold.problem import UnfoldingProblem, shifted_level, unfolding_problem
from difana.unfold.report import IterationReport
from difana.unfold.response import Response, response
from difana.unfold.result import UnfoldedEvents, UnfoldedHistogram

_UNBINNED = ("OmniFold", "Flow")


@dataclasses.dataclass(frozen=True)
class UnfoldingRun:
    """What ``run_unfolding`` found.

    Attributes:
        out: Folder of the results.
        config: The configuration.
        problem: The inputs.
        histograms: Unfolded histograms by name of the observable (or "joint").
        simulated: Simulated truth yields in the same bins.
        responses: Binned problems by the same names.
        events: Unfolded events of an unbinned method; None for a binned one.
        report: What happened in each iteration of OmniFold; None for other methods.
        summary: Content of ``result.json``.
    """

    out: Path
    config: UnfoldingConfig
    problem: UnfoldingProblem
    histograms: Mapping[str, UnfoldedHistogram]
    simulated: Mapping[str, np.ndarray]
    responses: Mapping[str, Response]
    events: UnfoldedEvents | None
    report: IterationReport | None
    summary: Mapping[str, Any]


def run_unfolding(
    config_path: str | Path,
    out: str | Path,
    *,
    progress: bool = True,
    report: Callable[[UnfoldingRun], Any] | None = None,
) -> UnfoldingRun:
    """Unfold what a configuration file describes.

    The folder gets ``result.json``: of each observable edges, values, errors, covariance, status
    and the simulated truth. Unbinned methods also write ``unfolded.parquet``, the dataset of
    ``difana.unfold.save_dataset``. A systematic repeats the unfolding, with the same random
    numbers, from varied simulation; its shift adds to the covariance. Call ``difana.enable_x64``
    first.

    Args:
        config_path: The YAML file, see ``read_unfolding``.
        out: Folder of the results, made if missing.
        progress: Say on standard error what is done.
        report: Called with the result while the folder still is held, to add to it.

    Returns:
        The result.

    Raises:
        ConfigError: If the configuration is wrong.
        InputError: If an input is bad; names file, branch or event. If another run writes into
            the folder, or the disk is full.
        ModelError: If a training diverges.
    """
    config = read_unfolding(config_path)
    if config.general["Joint"] and config.general["Method"] in _UNBINNED:
        raise ConfigError(
            f"{config.path}: 'Joint' is for binned methods; {config.general['Method']} unfolds all"
            " observables together, and its dataset gives any joint histogram"
        )
    if config.systematics and config.general["Method"] == "Flow":
        raise ConfigError(
            f"{config.path}: systematics of the method Flow draw other events and cannot be weights"
            " of one dataset; use OmniFold, or run once for each variation"
        )
    with held_folder(out) as folder:
        result = _run(config, folder, progress=progress)
        if report is not None:
            report(result)
    return result


def _run(config: UnfoldingConfig, folder: Path, *, progress: bool) -> UnfoldingRun:
    """Unfold into a folder that is held."""
    say = _speaker(on=progress)
    say(f"reading {config.path}")
    problem = load_problem(config)
    varied = [_varied(config, problem, entry) for entry in config.systematics]
    if config.options["PositiveWeights"]:
        say("learning positive weights")
        positive = positive_weights(problem, key=jax.random.key(config.general["Seed"] + 1))
        varied = [_reweighted(other, problem, positive) for other in varied]
        problem = positive
    say(f"unfolding {len(problem.data)} events by {config.general['Method']}")
    responses = _responses(config, problem)
    events, report = None, None
    if config.general["Method"] in _UNBINNED:
        events, report = _unbinned(config, problem, varied)
        histograms = {
            entry["Name"]: events.histogram(entry["Name"], np.asarray(entry["Edges"]))
            for entry in config.observables
        }
        save_dataset(
            events, folder / "unfolded.parquet", fiducial=config.general["Fiducial"],
            luminosity=config.general["Luminosity"],
        )  # fmt: skip
    else:
        histograms = {name: _binned(config, one) for name, one in responses.items()}
        for other in varied:
            shifted = {
                name: _binned(config, one) for name, one in _responses(config, other).items()
            }
            histograms = {n: _shifted(h, shifted[n]) for n, h in histograms.items()}
    summary = _summary(config, problem, histograms, responses)
    write_json(folder / "result.json", summary)
    return UnfoldingRun(
        out=folder, config=config, problem=problem, histograms=histograms,
        simulated={n: np.asarray(r.prior).reshape(histograms[n].values.shape)
                   for n, r in responses.items()},
        responses=responses, events=events, report=report, summary=summary,
    )  # fmt: skip


def load_problem(config: UnfoldingConfig) -> UnfoldingProblem:
    """Return the inputs that a configuration describes.

    Args:
        config: What ``read_unfolding`` returned.

    Returns:
        The checked problem.

    Raises:
        InputError: If a file, branch or number is bad; names section and culprit.
    """
    observables = config.observables
    sim = config.simulation
    names = ("PassGen", "PassReco", "GenWeight")
    columns = {name: sim[name] for name in names}
    columns["RecoWeight"] = sim["RecoWeight"] or sim["GenWeight"]
    columns |= {f"Gen {entry['Name']}": entry["Gen"] for entry in observables}
    columns |= {f"Reco {entry['Name']}": entry["Reco"] for entry in observables}
    table = _read(config, "Simulation", sim, columns)
    seen = {f"Reco {entry['Name']}": entry["Data"] or entry["Reco"] for entry in observables}

    def measured(section: str, settings: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        found = _read(config, section, settings, {"Weight": settings["Weight"], **seen})
        return np.stack([found[name] for name in seen], axis=1), found["Weight"]

    data, data_weights = measured("Data", config.data)
    background, background_weights = None, None
    if config.background is not None:
        background, background_weights = measured("Background", config.background)
    with _blame(config, "Simulation"):
        return unfolding_problem(
            np.stack([table[f"Gen {entry['Name']}"] for entry in observables], axis=1),
            np.stack([table[f"Reco {entry['Name']}"] for entry in observables], axis=1),
            data,
            pass_gen=table["PassGen"].astype(bool), pass_reco=table["PassReco"].astype(bool),
            gen_weights=table["GenWeight"], reco_weights=table["RecoWeight"],
            data_weights=data_weights, background=background,
            background_weights=background_weights,
            names=tuple(entry["Name"] for entry in observables),
            units=tuple(entry["Unit"] for entry in observables),
        )  # fmt: skip


def _varied(
    config: UnfoldingConfig, problem: UnfoldingProblem, entry: Mapping[str, Any]
) -> UnfoldingProblem:
    """Return the problem with the weights and the detector level of a systematic."""
    sim = config.simulation
    gen = entry["GenWeight"] or sim["GenWeight"]
    reco = entry["RecoWeight"] or entry["GenWeight"] or sim["RecoWeight"] or sim["GenWeight"]
    columns = {"GenWeight": gen, "RecoWeight": reco, "PassReco": entry["PassReco"] or "1 > 0"}
    moved = dict(entry["Reco"])
    shifted = bool(moved) or entry["PassReco"] is not None
    if shifted:
        observables = {other["Name"]: other["Reco"] for other in config.observables}
        columns |= {f"Reco {name}": text for name, text in (observables | moved).items()}
    table = _read(config, "Simulation", sim, columns)
    where = f"systematic '{entry['Name']}'"
    for name in ("GenWeight", "RecoWeight"):
        if not np.isfinite(table[name]).all():
            raise InputError(f"{where}: {name} is not finite")
    problem = eqx.tree_at(
        lambda p: (p.gen_weights, p.reco_weights), problem,
        (jnp.asarray(table["GenWeight"]), jnp.asarray(table["RecoWeight"])),
    )  # fmt: skip
    if not shifted:
        return problem
    values = np.stack([table[f"Reco {other['Name']}"] for other in config.observables], axis=1)
    passed = table["PassReco"].astype(bool) if entry["PassReco"] is not None else None
    with _blame(config, "Systematics"):
        level = shifted_level(problem, name=where, observables=values, pass_reco=passed)
    return eqx.tree_at(
        lambda p: (p.reco, p.pass_reco), problem, (level["observables"], level["pass_reco"])
    )


def _reweighted(
    varied: UnfoldingProblem, signed: UnfoldingProblem, positive: UnfoldingProblem
) -> UnfoldingProblem:
    """Return a variation of signed weights as the same variation of positive ones."""
    weights = lambda p: (p.gen_weights, p.reco_weights)  # noqa: E731
    new = tuple(
        p * safe_divide(v, s, 1.0)
        for v, s, p in zip(*(weights(q) for q in (varied, signed, positive)), strict=True)
    )
    return eqx.tree_at(weights, varied, new)


def _read(
    config: UnfoldingConfig, section: str, settings: Mapping[str, Any], columns: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Return columns as float64, numbers that are not finite included."""
    base = config.path.parent / Path(config.general["InputPath"] or "").expanduser()
    files = [text if "://" in text else str(base / Path(text).expanduser())
             for text in settings["Files"]]  # fmt: skip
    with _blame(config, section):
        found = read_identifiers(
            files,
            columns=columns,
            tree=settings["Tree"] or config.general["Tree"],
            selection=settings.get("Filter"),
        )
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def _responses(config: UnfoldingConfig, problem: UnfoldingProblem) -> dict[str, Response]:
    gen = [np.asarray(entry["Edges"]) for entry in config.observables]
    reco = [np.asarray(entry["RecoEdges"] or entry["Edges"]) for entry in config.observables]
    if config.general["Joint"]:
        return {"joint": response(problem, gen_edges=gen, reco_edges=reco)}
    found = {}
    for i, entry in enumerate(config.observables):
        one = eqx.tree_at(
            lambda p: (p.gen, p.reco, p.data), problem,
            (problem.gen[:, i : i + 1], problem.reco[:, i : i + 1], problem.data[:, i : i + 1]),
        )  # fmt: skip
        if problem.background is not None:
            one = eqx.tree_at(lambda p: p.background, one, problem.background[:, i : i + 1])
        one = dataclasses.replace(one, names=(entry["Name"],), units=(entry["Unit"],))
        with _blame(config, f"Observables, '{entry['Name']}'"):
            found[entry["Name"]] = response(one, gen_edges=gen[i], reco_edges=reco[i])
    return found


def _binned(config: UnfoldingConfig, one: Response) -> UnfoldedHistogram:
    options = config.options
    match config.general["Method"]:
        case "Bayes":
            return bayes(one, iterations=options["Iterations"])
        case "Inversion":
            return invert(one, strength=options["Strength"], order=options["Order"])
        case _:
            strength = options["Strength"] or None
            return fit_truth(one, strength=strength, order=options["Order"])[0]


def _unbinned(
    config: UnfoldingConfig, problem: UnfoldingProblem, varied: list[UnfoldingProblem]
) -> tuple[UnfoldedEvents, IterationReport | None]:
    options = config.options
    common: dict[str, Any] = {
        "iterations": options["Iterations"], "bootstraps": options["Bootstraps"]
    }  # fmt: skip
    training = {"epochs": "Epochs", "batch_size": "BatchSize", "learning_rate": "LearningRate"}
    for name, key in training.items():
        if options[key] is not None:
            common[name] = options[key]
    key = jax.random.key(config.general["Seed"])
    if config.general["Method"] == "Flow":
        flow = FlowUnfolding(samples=options["Samples"], **common)
        return flow.fit(problem, key=key).unfolded(), None
    factors = {
        entry["Name"]: {
            "gen": safe_divide(other.gen_weights, problem.gen_weights, 1.0),
            "reco": safe_divide(other.reco_weights, problem.reco_weights, 1.0),
            **(
                {"observables": other.reco, "pass_reco": other.pass_reco}
                if entry["Reco"] or entry["PassReco"]
                else {}
            ),
        }
        for entry, other in zip(config.systematics, varied, strict=True)
    }
    model = OmniFold(seeds=options["Seeds"], **common)
    model = model.fit(problem, key=key, variations=factors or None)
    assert model.result is not None
    return model.unfolded(), model.result.report


def _shifted(nominal: UnfoldedHistogram, varied: UnfoldedHistogram) -> UnfoldedHistogram:
    shift = jnp.ravel(varied.values - nominal.values)
    return dataclasses.replace(
        nominal,
        covariance=nominal.covariance + shift[:, None] * shift,
        status=nominal.status | varied.status,
    )


def _summary(
    config: UnfoldingConfig,
    problem: UnfoldingProblem,
    histograms: Mapping[str, UnfoldedHistogram],
    responses: Mapping[str, Response],
) -> dict[str, Any]:
    statuses = [(name, h.describe()) for name, h in histograms.items()]
    wrong = [f"{name}: {text}" for name, text in statuses if text != "ok"]
    return {
        "status": "; ".join(wrong) or "ok",
        "method": config.general["Method"],
        "fiducial": config.general["Fiducial"],
        "luminosity": config.general["Luminosity"],
        "events": {"simulated": len(problem.gen), "data": len(problem.data)},
        "histograms": {
            name: {
                "axes": list(h.names),
                "edges": [np.asarray(row) for row in h.edges],
                "values": h.values,
                "errors": h.errors,
                "covariance": h.covariance,
                "simulated": np.asarray(responses[name].prior).reshape(h.values.shape),
                "status": h.describe(),
            }
            for name, h in histograms.items()
        },
        "config": config.echo,
        "versions": versions(),
        "git": git_hash(config.path.resolve().parent),
    }


@contextlib.contextmanager
def _blame(config: UnfoldingConfig, section: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{config.path}, {section}: {error}") from error


def _speaker(*, on: bool) -> Any:
    if not on:
        return lambda text: None
    from rich.console import Console

    console = Console(stderr=True)
    return lambda text: console.print(f"[bold]difana[/] {text}", highlight=False)
