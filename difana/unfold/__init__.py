"""Unfolding: from detector-level data to truth-level distributions."""

from __future__ import annotations

from difana.unfold._inputs import load_problem
from difana.unfold.as_input import unfolded_channel
from difana.unfold.bayes import bayes, bayes_iterations
from difana.unfold.closure import ClosureResult, closure_test, halved, triangular
from difana.unfold.compatibility import (
    CompatibilityResult,
    compatibility,
    covariance_rank,
)
from difana.unfold.config import UnfoldingConfig, read_unfolding, unfolding_schema
from difana.unfold.dataset import save_dataset
from difana.unfold.fit_flow_unfolding import fit_flow_unfolding
from difana.unfold.fit_omnifold import fit_omnifold, start_nets
from difana.unfold.flow_result import FlowUnfoldingResult
from difana.unfold.inversion import invert
from difana.unfold.likelihood import fit_truth, truth_names, unfolding_model
from difana.unfold.load_dataset import load_dataset
from difana.unfold.nuisance import (
    NuisanceFit,
    NuisanceWeights,
    fit_nuisance,
    nuisance_weights,
)
from difana.unfold.omnifold import omnifold
from difana.unfold.omnifold_result import OmniFoldResult
from difana.unfold.positive import positive_weights
from difana.unfold.problem import UnfoldingProblem, unfolding_problem
from difana.unfold.replicas import Factors, Replicas, Shifts, poisson_factors
from difana.unfold.report import IterationReport, OmniFoldWeights
from difana.unfold.response import Response, response
from difana.unfold.result import AbstractUnfolded, UnfoldedEvents, UnfoldedHistogram
from difana.unfold.run import UnfoldingRun, run_unfolding
from difana.unfold.settings import Settings
from difana.unfold.status import UnfoldStatus

__all__ = [
    "AbstractUnfolded",
    "ClosureResult",
    "CompatibilityResult",
    "Factors",
    "FlowUnfoldingResult",
    "IterationReport",
    "NuisanceFit",
    "NuisanceWeights",
    "OmniFoldResult",
    "OmniFoldWeights",
    "Replicas",
    "Response",
    "Settings",
    "Shifts",
    "UnfoldStatus",
    "UnfoldedEvents",
    "UnfoldedHistogram",
    "UnfoldingConfig",
    "UnfoldingProblem",
    "UnfoldingRun",
    "bayes",
    "bayes_iterations",
    "closure_test",
    "compatibility",
    "covariance_rank",
    "fit_flow_unfolding",
    "fit_nuisance",
    "fit_omnifold",
    "fit_truth",
    "halved",
    "invert",
    "load_dataset",
    "load_problem",
    "nuisance_weights",
    "omnifold",
    "poisson_factors",
    "positive_weights",
    "read_unfolding",
    "response",
    "run_unfolding",
    "save_dataset",
    "start_nets",
    "triangular",
    "truth_names",
    "unfolded_channel",
    "unfolding_model",
    "unfolding_problem",
    "unfolding_schema",
]
