"""Room 4: yields to model. HistFactory as a PyTree; pyhf JSON in and out."""

from difana.likelihood.build import build_model
from difana.likelihood.interpolation import code4, code4p
from difana.likelihood.model import Model
from difana.likelihood.modifiers import (
    AbstractModifier,
    Channel,
    HistoSys,
    Lumi,
    NormFactor,
    NormSys,
    Parameter,
    ShapeFactor,
    ShapeSys,
    StatError,
    Template,
)
from difana.likelihood.pyhf_json import from_workspace, to_workspace
from difana.likelihood.templates import all_scores, channel_from_events

__all__ = [
    "AbstractModifier",
    "Channel",
    "HistoSys",
    "Lumi",
    "Model",
    "NormFactor",
    "NormSys",
    "Parameter",
    "ShapeFactor",
    "ShapeSys",
    "StatError",
    "Template",
    "all_scores",
    "build_model",
    "channel_from_events",
    "code4",
    "code4p",
    "from_workspace",
    "to_workspace",
]
