"""Normalising flows: densities that can be evaluated, sampled and conditioned."""

from __future__ import annotations

from difana.flows.fit import FlowResult, fit_flow
from difana.flows.replicas import FlowReplicas, fit_flow_replicas
from difana.flows.spline_flow import SplineFlow, spline_flow

__all__ = [
    "FlowReplicas",
    "FlowResult",
    "SplineFlow",
    "fit_flow",
    "fit_flow_replicas",
    "spline_flow",
]
