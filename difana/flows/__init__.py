"""Normalising flows: densities that can be evaluated, sampled and conditioned."""

from __future__ import annotations

from difana.flows.bayesian import BayesianFlow, BayesianFlowResult, fit_bayesian_flow
from difana.flows.columns import Column, Columns
from difana.flows.continuous import Continuous, transport_pairs
from difana.flows.correction import Correction, CorrectionResult, fit_correction
from difana.flows.distil import distil
from difana.flows.fit import FlowResult, fit_flow
from difana.flows.flow import Flow
from difana.flows.importance import Integrator, IntegratorResult, fit_integrator, integrator
from difana.flows.integral import Integral, Points
from difana.flows.make import autoregressive_flow, continuous_flow, coupling_flow
from difana.flows.protocol import AbstractFlow
from difana.flows.replicas import FlowReplicas, fit_flow_replicas
from difana.flows.unweight import (
    Unweighted,
    effective_gain,
    largest_weight,
    unweight,
    unweighting_efficiency,
)

__all__ = [
    "AbstractFlow",
    "BayesianFlow",
    "BayesianFlowResult",
    "Column",
    "Columns",
    "Continuous",
    "Correction",
    "CorrectionResult",
    "Flow",
    "FlowReplicas",
    "FlowResult",
    "Integral",
    "Integrator",
    "IntegratorResult",
    "Points",
    "Unweighted",
    "autoregressive_flow",
    "continuous_flow",
    "coupling_flow",
    "distil",
    "effective_gain",
    "fit_bayesian_flow",
    "fit_correction",
    "fit_flow",
    "fit_flow_replicas",
    "fit_integrator",
    "integrator",
    "largest_weight",
    "transport_pairs",
    "unweight",
    "unweighting_efficiency",
]
