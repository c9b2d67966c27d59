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
from difana.nn.trainable import trainable as trainable
from difana.nn.weights import load_weights as load_weights
from difana.nn.weights import save_weights as save_weights

__all__ = [
    "MLP",
    "DeepSets",
    "ExportedNetwork",
    "MeanOf",
    "Parametrised",
    "PointEdgeTransformer",
    "Standardised",
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
