"""Unfolding: from detector-level data to truth-level distributions."""

from __future__ import annotations

from difana.unfold.bayes import bayes, bayes_iterations
from difana.unfold.closure import ClosureResult, closure_test, halved, triangular
from difana.unfold.estimator import OmniFold
from difana.unfold.inversion import invert
from difana.unfold.nuisance import (
    NuisanceFit,
    NuisanceWeights,
    fit_nuisance,
    nuisance_weights,
)
from difana.unfold.omnifold import omnifold
from difana.unfold.problem import UnfoldingProblem, unfolding_problem
from difana.unfold.replicas import Replicas, poisson_factors, stacked_nets
from difana.unfold.report import IterationReport, OmniFoldResult
from difana.unfold.response import Response, response
from difana.unfold.result import AbstractUnfolded, UnfoldedEvents, UnfoldedHistogram
from difana.unfold.settings import Settings
from difana.unfold.status import UnfoldStatus, describe

__all__ = [
    "AbstractUnfolded",
    "ClosureResult",
    "IterationReport",
    "NuisanceFit",
    "NuisanceWeights",
    "OmniFold",
    "OmniFoldResult",
    "Replicas",
    "Response",
    "Settings",
    "UnfoldStatus",
    "UnfoldedEvents",
    "UnfoldedHistogram",
    "UnfoldingProblem",
    "bayes",
    "bayes_iterations",
    "closure_test",
    "describe",
    "fit_nuisance",
    "halved",
    "invert",
    "nuisance_weights",
    "omnifold",
    "poisson_factors",
    "response",
    "stacked_nets",
    "triangular",
    "unfolding_problem",
]
