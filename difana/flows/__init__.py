"""Normalising flows: densities that can be evaluated, sampled and conditioned."""

from __future__ import annotations

from difana.flows.columns import Column, Columns
from difana.flows.continuous import Continuous, transport_pairs
from difana.flows.fit import FlowResult, fit_flow
from difana.flows.flow import Flow
from difana.flows.make import autoregressive_flow, continuous_flow, coupling_flow
from difana.flows.protocol import AbstractFlow
from difana.flows.replicas import FlowReplicas, fit_flow_replicas

__all__ = [
    "AbstractFlow",
    "Column",
    "Columns",
    "Continuous",
    "Flow",
    "FlowReplicas",
    "FlowResult",
    "autoregressive_flow",
    "continuous_flow",
    "coupling_flow",
    "fit_flow",
    "fit_flow_replicas",
    "transport_pairs",
]
