"""Room 4: yields to model. HistFactory as a PyTree; pyhf JSON in and out."""

from difana.likelihood.barlow_beeston import full_statistics
from difana.likelihood.build import build_model
from difana.likelihood.formats.combine import combine
from difana.likelihood.formats.histfactory_xml import read_xml
from difana.likelihood.formats.hs3_read import from_hs3
from difana.likelihood.formats.hs3_write import to_hs3
from difana.likelihood.formats.json_patch import apply_patch
from difana.likelihood.formats.keep_part import keep_part
from difana.likelihood.formats.patchset import PatchSet, digest, read_patchset
from difana.likelihood.formats.prune import prune, rename
from difana.likelihood.formats.prune_bins import prune_bins
from difana.likelihood.formats.prune_small import prune_small
from difana.likelihood.formats.pyhf_json import from_workspace, model_from_workspace
from difana.likelihood.formats.pyhf_write import to_workspace
from difana.likelihood.formats.signal_grid import SignalPoints, signal_points
from difana.likelihood.formats.smooth import smooth
from difana.likelihood.formats.symmetrise import symmetrise
from difana.likelihood.formats.workspace import read_workspace, sort_workspace
from difana.likelihood.interpolation import code4, code4p
from difana.likelihood.masking import mask
from difana.likelihood.model import Model
from difana.likelihood.model_with import model_with, with_yields
from difana.likelihood.modifiers import (
    AbstractModifier,
    Channel,
    Correlation,
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
from difana.likelihood.signal import with_signal
from difana.likelihood.simple import correlated_background, uncorrelated_background
from difana.likelihood.templates.clip_templates import clip_templates
from difana.likelihood.templates.learned_bins import channel_from_logits
from difana.likelihood.templates.norm_and_shape import NormAndShape, norm_and_shape
from difana.likelihood.templates.smooth_templates import SMOOTHINGS, smooth_353qh, smooth_templates
from difana.likelihood.templates.sums import TemplateSums, channel_from_sums
from difana.likelihood.templates.symmetric_templates import symmetric_factors, symmetric_templates
from difana.likelihood.templates.templates import all_scores, channel_from_events, template_sums
from difana.likelihood.templates.transfer import abcd_templates, transfer_template

__all__ = [
    "SMOOTHINGS",
    "AbstractModifier",
    "Channel",
    "Correlation",
    "HistoSys",
    "Lumi",
    "Model",
    "NormAndShape",
    "NormFactor",
    "NormSys",
    "Parameter",
    "PatchSet",
    "ShapeFactor",
    "ShapeSys",
    "SignalPoints",
    "StatError",
    "Template",
    "TemplateSums",
    "abcd_templates",
    "all_scores",
    "apply_patch",
    "build_model",
    "channel_from_events",
    "channel_from_logits",
    "channel_from_sums",
    "clip_templates",
    "code4",
    "code4p",
    "combine",
    "correlated_background",
    "digest",
    "from_hs3",
    "from_workspace",
    "full_statistics",
    "keep_part",
    "mask",
    "model_from_workspace",
    "model_with",
    "norm_and_shape",
    "prune",
    "prune_bins",
    "prune_small",
    "read_patchset",
    "read_workspace",
    "read_xml",
    "rename",
    "signal_points",
    "smooth",
    "smooth_353qh",
    "smooth_templates",
    "sort_workspace",
    "symmetric_factors",
    "symmetric_templates",
    "symmetrise",
    "template_sums",
    "to_hs3",
    "to_workspace",
    "transfer_template",
    "uncorrelated_background",
    "with_signal",
    "with_yields",
]
