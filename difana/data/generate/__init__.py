"""Generated samples: Gaussian blobs (NEOS), the INFERNO mixture, a resonance, unfolding toys."""

from __future__ import annotations

from difana.data.generate.blobs import blobs
from difana.data.generate.gaussian_levels import (
    GAUSSIAN_TOYS,
    GaussianLevels,
    gaussian_levels,
    gaussian_recursion,
)
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
    "GAUSSIAN_TOYS",
    "RESONANCE_COLUMNS",
    "RESONANCE_NORMALISATIONS",
    "RESONANCE_TRANSFORMATION",
    "RESONANCE_UNITS",
    "RESONANCE_YIELDS",
    "GaussianLevels",
    "blobs",
    "gaussian_levels",
    "gaussian_recursion",
    "inferno",
    "inferno_log_ratio",
    "resonance",
    "write_resonance",
]
