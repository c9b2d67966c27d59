"""Networks: events in, raw observables out. A network is any callable PyTree."""

from difana.nn.activations import activation as activation
from difana.nn.deep_sets import DeepSets as DeepSets
from difana.nn.mean_of import MeanOf as MeanOf
from difana.nn.mlp import MLP as MLP
from difana.nn.modes import batch_statistics as batch_statistics
from difana.nn.modes import evaluation_mode as evaluation_mode
from difana.nn.modes import training_mode as training_mode
from difana.nn.parametrised import Parametrised as Parametrised
from difana.nn.point_transformer import PointEdgeTransformer as PointEdgeTransformer
from difana.nn.stablehlo import ExportedNetwork as ExportedNetwork
from difana.nn.stablehlo import export_network as export_network
from difana.nn.stablehlo import load_network as load_network
from difana.nn.standardised import Standardised as Standardised
from difana.nn.standardised import location_and_scale as location_and_scale
from difana.nn.taggers import EFN as EFN
from difana.nn.taggers import LITE as LITE
from difana.nn.taggers import LSTM as LSTM
from difana.nn.taggers import NANO as NANO
from difana.nn.taggers import PELICAN as PELICAN
from difana.nn.taggers import PFN as PFN
from difana.nn.taggers import SLIM_NANO as SLIM_NANO
from difana.nn.taggers import ImageCNN as ImageCNN
from difana.nn.taggers import InJetFrame as InJetFrame
from difana.nn.taggers import JetTasks as JetTasks
from difana.nn.taggers import LGATrSlim as LGATrSlim
from difana.nn.taggers import LLoCaTransformer as LLoCaTransformer
from difana.nn.taggers import LocalFrames as LocalFrames
from difana.nn.taggers import LorentzNet as LorentzNet
from difana.nn.taggers import ParticleNet as ParticleNet
from difana.nn.taggers import ParticleTransformer as ParticleTransformer
from difana.nn.taggers import Tagger as Tagger
from difana.nn.taggers import Transformer as Transformer
from difana.nn.taggers import VertexTagger as VertexTagger
from difana.nn.trainable import trainable as trainable
from difana.nn.weights import load_weights as load_weights
from difana.nn.weights import save_weights as save_weights

__all__ = [
    "EFN",
    "LITE",
    "LSTM",
    "MLP",
    "NANO",
    "PELICAN",
    "PFN",
    "SLIM_NANO",
    "DeepSets",
    "ExportedNetwork",
    "ImageCNN",
    "InJetFrame",
    "JetTasks",
    "LGATrSlim",
    "LLoCaTransformer",
    "LocalFrames",
    "LorentzNet",
    "MeanOf",
    "Parametrised",
    "ParticleNet",
    "ParticleTransformer",
    "PointEdgeTransformer",
    "Standardised",
    "Tagger",
    "Transformer",
    "VertexTagger",
    "activation",
    "batch_statistics",
    "evaluation_mode",
    "export_network",
    "load_network",
    "load_weights",
    "location_and_scale",
    "save_weights",
    "trainable",
    "training_mode",
]
