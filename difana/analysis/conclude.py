"""What follows a training: evaluation on the test split, the result, its files."""

from __future__ import annotations

from pathlib import Path

from difana.analysis.config import AnalysisConfig
from difana.analysis.evaluate import evaluate
from difana.analysis.folds import CrossFitted, evaluate_folds
from difana.analysis.input_yields import input_yields
from difana.analysis.load import Loaded
from difana.analysis.optimised import Optimised
from difana.analysis.regions import region_yields
from difana.analysis.result import AnalysisResult
from difana.analysis.summary import summary_of
from difana.analysis.write import write_result
from difana.config import Journal, jsonable


def conclude(
    config: AnalysisConfig,
    loaded: Loaded,
    optimised: Optimised | CrossFitted,
    *,
    folder: Path,
    journal: Journal,
) -> AnalysisResult:
    """Evaluate what was trained, and write the result into a folder that is held.

    Args:
        config: The configuration.
        loaded: Its events.
        optimised: What the training found.
        folder: The folder.
        journal: Says and times what is done.
    """
    if isinstance(optimised, CrossFitted):
        journal.begin("evaluate", "evaluating on the events of all folds")
        found = evaluate_folds(config, loaded, optimised)
    else:
        journal.begin("evaluate", "evaluating on the test split")
        found = evaluate(config, loaded, optimised)
    journal.begin("write", "writing results")
    result = AnalysisResult(
        config=config,
        out=folder,
        summary=jsonable(summary_of(config, loaded, optimised, found)),
        comparison=found.comparison,
        model=found.model,
        data=found.data,
        statistics=found.statistics,
        regions=region_yields(config, found),
        channels=(*found.channels, *loaded.channels),
        history=tuple(optimised.history),
        bandwidths={
            own.name: float(width)
            for own, width in zip(loaded.regions, optimised.bandwidths, strict=True)
        },
        soft=found.soft,
        conditions=found.conditions,
        scores=found.scores,
        inputs={
            own.name: input_yields(own.test, own.observed, poi=config.general.interest)
            for own in loaded.regions
            if own.category < 1  # categories share their inputs
        },
    )
    write_result(result, optimised)
    journal.end(folder)
    return result
