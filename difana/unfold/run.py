"""The configured unfolding: read, unfold, histogram, write."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from difana._numerics import safe_divide
from difana.config import Journal, digest, git_hash, held_folder, versions, write_json
from difana.train import Checkpoints, Training
from difana.unfold._inputs import load_problem, responses, reweighted, varied
from difana.unfold.bayes import bayes
from difana.unfold.config import UnfoldingConfig, read_unfolding
from difana.unfold.dataset import save_dataset
from difana.unfold.fit_flow_unfolding import FLOW_TRAINING, fit_flow_unfolding
from difana.unfold.fit_omnifold import fit_omnifold
from difana.unfold.inversion import invert
from difana.unfold.likelihood import fit_truth
from difana.unfold.positive import positive_weights
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import Replicas
from difana.unfold.report import IterationReport
from difana.unfold.response import Response
from difana.unfold.result import UnfoldedEvents, UnfoldedHistogram

_CHECKPOINTS, _DATASET = "checkpoints", "unfolded.parquet"


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

    @property
    def message(self) -> str:
        """``ok``, or why the numbers cannot be trusted."""
        return str(self.summary["status"])


def run_unfolding(
    config_path: str | Path,
    out: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
    report: Callable[[UnfoldingRun], Any] | None = None,
) -> UnfoldingRun:
    """Unfold what a configuration file describes.

    The folder gets ``result.json``: of each observable edges, values, errors, covariance, status
    and the simulated truth; and ``timing.json``. Unbinned methods also write ``unfolded.parquet``,
    the dataset of ``difana.unfold.save_dataset``. A systematic repeats the unfolding, with the same
    random numbers, from varied simulation; its shift adds to the covariance. A killed run that is
    started again continues after the last half iteration, and ends with the same ``result.json``,
    byte for byte. Call ``difana.enable_x64`` first.

    Args:
        config_path: The YAML file, see ``read_unfolding``.
        out: Folder of the results, made if missing.
        resume: False: delete the checkpoints in the folder and start over.
        progress: Say on standard error what is done.
        report: Called with the result while the folder still is held, to add to it.

    Returns:
        The result.

    Raises:
        ConfigError: If the configuration is wrong, or the checkpoints are of another one.
        InputError: If an input is bad; names file, branch or event. If another run writes into
            the folder, or the disk is full.
        ModelError: If a training diverges.
    """
    config = read_unfolding(config_path)
    with held_folder(out, inner=(_CHECKPOINTS,)) as folder:
        if not resume:
            shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
        result = _run(config, folder, Journal(speak=progress))
        if report is not None:
            report(result)
    return result


def _run(config: UnfoldingConfig, folder: Path, journal: Journal) -> UnfoldingRun:
    """Unfold into a folder that is held."""
    journal.begin("read", f"reading {config.path}")
    problem = load_problem(config)
    others = [varied(config, problem, entry) for entry in config.systematics]
    if config.options.positive_weights:
        journal.begin("weights", "learning positive weights")
        positive = _positive(config, problem, folder / _CHECKPOINTS / "positive")
        others = [reweighted(other, problem, positive) for other in others]
        problem = positive
    journal.begin("unfold", f"unfolding {len(problem.data)} events by {config.general.method}")
    binned = responses(config, problem)
    events, report = None, None
    if config.general.method in ("OmniFold", "Flow"):
        events, report = _unbinned(config, problem, others, folder, bar=journal.speak)
        histograms = {
            entry.name: events.histogram(entry.name, np.asarray(entry.edges))
            for entry in config.observables
        }
    else:
        histograms = {name: _binned(config, one) for name, one in binned.items()}
        for other in others:
            shifted = {name: _binned(config, one) for name, one in responses(config, other).items()}
            histograms = {n: _shifted(h, shifted[n]) for n, h in histograms.items()}
    journal.begin("write", "writing results")
    for name in ("result.json", _DATASET):  # of another run
        (folder / name).unlink(missing_ok=True)
    simulated = {n: np.asarray(binned[n].prior).reshape(h.values.shape)
                 for n, h in histograms.items()}  # fmt: skip
    summary = _summary(config, problem, histograms, simulated)
    if events is not None:
        save_dataset(
            events, folder / _DATASET, fiducial=config.general.fiducial,
            luminosity=config.general.luminosity,
        )  # fmt: skip
    write_json(folder / "result.json", summary)
    journal.end(folder)
    return UnfoldingRun(
        out=folder, config=config, problem=problem, histograms=histograms, simulated=simulated,
        responses=binned, events=events, report=report, summary=summary,
    )  # fmt: skip


def _positive(config: UnfoldingConfig, problem: UnfoldingProblem, kept: Path) -> UnfoldingProblem:
    """Return the problem with positive weights: learned once, then kept in the folder."""
    facts = {"problem": digest(problem), "seed": config.general.seed}
    with Checkpoints(kept, fingerprint=facts) as store:
        found = store.restore(problem)
        if found is not None:
            return found.tree
        positive = positive_weights(problem, key=jax.random.key(config.general.seed + 1))
        store.save(1, positive, facts={})
        return positive


def _binned(config: UnfoldingConfig, one: Response) -> UnfoldedHistogram:
    options = config.options
    match config.general.method:
        case "Bayes":
            return bayes(one, iterations=options.iterations)
        case "Inversion":
            return invert(one, strength=options.strength, order=options.order)
        case _:
            return fit_truth(one, strength=options.strength or None, order=options.order)[0]


def _unbinned(
    config: UnfoldingConfig,
    problem: UnfoldingProblem,
    others: Sequence[UnfoldingProblem],
    folder: Path,
    *,
    bar: bool,
) -> tuple[UnfoldedEvents, IterationReport | None]:
    """Unfold event by event; every half iteration is kept in the folder."""
    options, key = config.options, jax.random.key(config.general.seed)
    usual = FLOW_TRAINING if config.general.method == "Flow" else Training()
    training = dataclasses.replace(
        usual, epochs=options.epochs, batch_size=options.batch_size,
        learning_rate=options.learning_rate,
    )  # fmt: skip
    kept: dict[str, Any] = {"checkpoint": folder / _CHECKPOINTS, "progress_bar": bar}
    if config.general.method == "Flow":
        flow = fit_flow_unfolding(
            problem, key=key, iterations=options.iterations, samples=options.samples,
            training=training, bootstraps=options.bootstraps, **kept,
        )  # fmt: skip
        return flow.unfolded(), None
    variations = {
        entry.name: {
            "gen": safe_divide(other.gen_weights, problem.gen_weights, 1.0),
            "reco": safe_divide(other.reco_weights, problem.reco_weights, 1.0),
            **({"observables": other.reco, "pass_reco": other.pass_reco} if entry.moves else {}),
        }
        for entry, other in zip(config.systematics, others, strict=True)
    }
    result = fit_omnifold(
        problem, key=key, iterations=options.iterations, training=training,
        replicas=Replicas(options.seeds, options.bootstraps, variations), **kept,
    )  # fmt: skip
    return result.unfolded(), result.report


def _shifted(nominal: UnfoldedHistogram, other: UnfoldedHistogram) -> UnfoldedHistogram:
    shift = jnp.ravel(other.values - nominal.values)
    return dataclasses.replace(
        nominal,
        covariance=nominal.covariance + shift[:, None] * shift,
        status=nominal.status | other.status,
    )


def _summary(
    config: UnfoldingConfig,
    problem: UnfoldingProblem,
    histograms: Mapping[str, UnfoldedHistogram],
    simulated: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    statuses = [(name, h.message) for name, h in histograms.items()]
    wrong = [f"{name}: {text}" for name, text in statuses if text != "ok"]
    return {
        "status": "; ".join(wrong) or "ok",
        "method": config.general.method,
        "fiducial": config.general.fiducial,
        "luminosity": config.general.luminosity,
        "events": {"simulated": len(problem.gen), "data": len(problem.data)},
        "histograms": {
            name: {
                "axes": list(h.names),
                "edges": [np.asarray(row) for row in h.edges],
                "values": h.values,
                "errors": h.errors,
                "covariance": h.covariance,
                "simulated": simulated[name],
                "status": h.message,
            }
            for name, h in histograms.items()
        },
        "config": config.echo,
        "versions": versions(),
        "git": git_hash(config.path.resolve().parent),
    }
