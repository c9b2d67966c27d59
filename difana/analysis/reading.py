"""What is read off the fit of a result: pulls and ranking of the nuisance parameters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from difana.analysis.blinding import expected_vector
from difana.analysis.statistics import Final
from difana.infer import FitResult, ImpactsResult, Inference, PullsResult, impacts, pulls
from difana.likelihood import Model, model_with

if TYPE_CHECKING:
    from difana.analysis.result import AnalysisResult

SIMULATION = "statistics of the simulation"  # group of the impacts
_MOST_REFITS = 150  # nuisance parameters; beyond, impacts are linear


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a fit says about the nuisance parameters.

    Attributes:
        fit: The fit.
        pulls: Pulls and constraints.
        impacts: Impacts on the parameter of interest; the statistics of the simulation are a group.
        label: What was fitted, in two words.
        words: The same in a sentence.
    """

    fit: FitResult
    pulls: PullsResult
    impacts: ImpactsResult
    label: str
    words: str


def reading(result: AnalysisResult) -> Reading:
    """Return pulls and impacts: of the fit to the data, without data to Asimov data.

    The signal strength may be negative here, as far as it leaves events in every bin: at a bound
    nothing could be said of what moves it. Asimov data have unit signal, and take the place of
    data that lead to a bound all the same.

    Args:
        result: What `run` returned.
    """
    poi = result.summary["poi"]
    model = _with_room(result.model, result.statistics, poi)
    data, label, words = result.data, "fit to data", "The fit to the data."
    fit = Inference(model, data).best if result.real_data else None
    at = model.init
    if fit is None:
        words = f"The fit to Asimov data with {poi} = 1."
        if result.statistics.control is not None:
            at = result.statistics.fit.params
            words = f"{words[:-1]}, the rest as fitted to the regions that are not blinded."
    elif poi in fit.at_bound:
        at = fit.params
        words = f"The data have so few events where signal is expected that the fit leaves {poi} at"
        words += f" its bound. Here is one to Asimov data with {poi} = 1, the rest as fitted."
    elif float(fit[poi]) < 0:
        words = f"{words} Here {poi} may be negative."
    if fit is None or poi in fit.at_bound:
        label = f"Asimov, {poi} = 1"
        data = expected_vector(model, at.at[model.poi_index].set(1.0))
        fit = Inference(model, data).best
    method = "refit" if len(model.parameters) <= _MOST_REFITS else "gradient"
    simulation = [name for name in model.parameters if name.startswith("staterror_")]
    groups = {SIMULATION: simulation} if simulation else {}
    found = impacts(model, data, fit=fit, method=method, groups=groups)
    return Reading(fit, pulls(model, fit), found, label, words)


def _with_room(model: Model, final: Final, poi: str) -> Model:
    """Return the model with a signal strength that may be negative."""
    background = np.asarray(final.prefit.bins)
    signal = np.asarray(final.unit.bins) - background
    seen = (signal > 0) & (background > 0)
    least = -0.5 * float(np.min(background[seen] / signal[seen], initial=np.inf))
    low, high = float(model.lower[model.poi_index]), float(model.upper[model.poi_index])
    return model_with(model, bounds={poi: (min(low, max(least, -high)), high)})
