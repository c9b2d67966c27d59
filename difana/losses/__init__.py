"""Room 6: one number to minimise. Each loss is ``loss(net, batch, ...) -> (scalar, aux)``."""

from difana.losses._model import model_of
from difana.losses.cross_entropy import cross_entropy
from difana.losses.discovery import discovery
from difana.losses.expected_cls import expected_cls
from difana.losses.expected_limit import expected_limit
from difana.losses.inferno import inferno
from difana.losses.minimum_events import minimum_events
from difana.losses.poi_uncertainty import poi_uncertainty, sigma_of

__all__ = [
    "cross_entropy",
    "discovery",
    "expected_cls",
    "expected_limit",
    "inferno",
    "minimum_events",
    "model_of",
    "poi_uncertainty",
    "sigma_of",
]
