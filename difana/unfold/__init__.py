"""Unfolding: from detector-level data to truth-level distributions."""

from __future__ import annotations

from difana.unfold.bayes import bayes, bayes_iterations
from difana.unfold.estimator import OmniFold
from difana.unfold.inversion import invert
from difana.unfold.omnifold import (
    IterationReport,
    OmniFoldResult,
    Settings,
    omnifold,
    poisson_factors,
    stacked_nets,
)
from difana.unfold.problem import UnfoldingProblem, unfolding_problem
from difana.unfold.response import Response, response
from difana.unfold.result import AbstractUnfolded, UnfoldedEvents, UnfoldedHistogram
from difana.unfold.status import UnfoldStatus, describe

__all__ = [
    "AbstractUnfolded",
    "IterationReport",
    "OmniFold",
    "OmniFoldResult",
    "Response",
    "Settings",
    "UnfoldStatus",
    "UnfoldedEvents",
    "UnfoldedHistogram",
    "UnfoldingProblem",
    "bayes",
    "bayes_iterations",
    "describe",
    "invert",
    "omnifold",
    "poisson_factors",
    "response",
    "stacked_nets",
    "unfolding_problem",
]
