"""Generated samples: blobs (NEOS), the INFERNO mixture, a resonance, unfolding toys, ..."""

from __future__ import annotations

from difana.data.generate.blobs import blobs
from difana.data.generate.gaussian_levels import (
    GAUSSIAN_TOYS,
    GaussianLevels,
    gaussian_levels,
    gaussian_recursion,
)
from difana.data.generate.inferno import inferno, inferno_log_ratio
from difana.data.generate.jets import (
    JET_BINS,
    JET_MOMENTS,
    JET_NAMES,
    JET_UNITS,
    JetLevels,
    jet_recursion,
    jets,
)
from difana.data.generate.resonance import (
    RESONANCE_COLUMNS,
    RESONANCE_NORMALISATIONS,
    RESONANCE_TRANSFORMATION,
    RESONANCE_UNITS,
    RESONANCE_YIELDS,
    resonance,
    write_resonance,
)
from difana.data.generate.uncertain_variable import uncertain_variable
from difana.data.generate.unfolding_toys import (
    acceptance_levels,
    cloud_levels,
    resolution_levels,
    with_resolution,
)

__all__ = [
    "GAUSSIAN_TOYS",
    "JET_BINS",
    "JET_MOMENTS",
    "JET_NAMES",
    "JET_UNITS",
    "RESONANCE_COLUMNS",
    "RESONANCE_NORMALISATIONS",
    "RESONANCE_TRANSFORMATION",
    "RESONANCE_UNITS",
    "RESONANCE_YIELDS",
    "GaussianLevels",
    "JetLevels",
    "acceptance_levels",
    "blobs",
    "cloud_levels",
    "gaussian_levels",
    "gaussian_recursion",
    "inferno",
    "inferno_log_ratio",
    "jet_recursion",
    "jets",
    "resolution_levels",
    "resonance",
    "uncertain_variable",
    "with_resolution",
    "write_resonance",
]
