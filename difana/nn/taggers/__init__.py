"""Jet taggers: from padded constituents to logits. All have one door, see `Tagger`."""

from __future__ import annotations

from difana.nn.taggers._base import Tagger
from difana.nn.taggers.frames import InJetFrame, LocalFrames
from difana.nn.taggers.gn2 import JetTasks, VertexTagger
from difana.nn.taggers.image import ImageCNN, jet_image
from difana.nn.taggers.kinematics import (
    boosted,
    centred,
    four_momenta,
    minkowski_products,
    pair_features,
    particle_features,
    rotated,
)
from difana.nn.taggers.lgatr_slim import SLIM_NANO, LGATrSlim
from difana.nn.taggers.lorentz_net import LorentzNet
from difana.nn.taggers.lstm import LSTM
from difana.nn.taggers.named import TAGGERS, tagger_named
from difana.nn.taggers.particle_net import LITE, ParticleNet
from difana.nn.taggers.particle_transformer import ParticleTransformer
from difana.nn.taggers.pelican import NANO, PELICAN
from difana.nn.taggers.pfn import EFN, PFN
from difana.nn.taggers.transformer import LLoCaTransformer, Transformer

__all__ = [
    "EFN",
    "LITE",
    "LSTM",
    "NANO",
    "PELICAN",
    "PFN",
    "SLIM_NANO",
    "TAGGERS",
    "ImageCNN",
    "InJetFrame",
    "JetTasks",
    "LGATrSlim",
    "LLoCaTransformer",
    "LocalFrames",
    "LorentzNet",
    "ParticleNet",
    "ParticleTransformer",
    "Tagger",
    "Transformer",
    "VertexTagger",
    "boosted",
    "centred",
    "four_momenta",
    "jet_image",
    "minkowski_products",
    "pair_features",
    "particle_features",
    "rotated",
    "tagger_named",
]
