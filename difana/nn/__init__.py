"""Networks: events in, raw observables out. A network is any callable PyTree."""

from difana.nn.activations import activation as activation
from difana.nn.deep_sets import DeepSets as DeepSets
from difana.nn.mlp import MLP as MLP
from difana.nn.parametrised import Parametrised as Parametrised
from difana.nn.standardised import Standardised as Standardised
from difana.nn.trainable import trainable as trainable
from difana.nn.weights import load_weights as load_weights
from difana.nn.weights import save_weights as save_weights

__all__ = [
    "MLP",
    "DeepSets",
    "Parametrised",
    "Standardised",
    "activation",
    "load_weights",
    "save_weights",
    "trainable",
]
