"""Generated samples: Gaussian blobs (NEOS), the INFERNO mixture, and a dijet resonance."""

from __future__ import annotations

from difana.data.generate.blobs import blobs
from difana.data.generate.inferno import inferno, inferno_log_ratio
from difana.data.generate.resonance import (
    RESONANCE_COLUMNS,
    RESONANCE_NORMALISATIONS,
    RESONANCE_TRANSFORMATION,
    RESONANCE_UNITS,
    RESONANCE_YIELDS,
    resonance,
    write_resonance,
)

__all__ = [
    "RESONANCE_COLUMNS",
    "RESONANCE_NORMALISATIONS",
    "RESONANCE_TRANSFORMATION",
    "RESONANCE_UNITS",
    "RESONANCE_YIELDS",
    "blobs",
    "inferno",
    "inferno_log_ratio",
    "resonance",
    "write_resonance",
]
