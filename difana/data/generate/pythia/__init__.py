"""Real events: Pythia 8, anti-kT jets with constituents, a detector, and true systematics.

Pythia and fastjet (extra ``pythia``) are needed to generate, not to read, detect or vary.
"""

from __future__ import annotations

from difana.data.generate.pythia.detector import CHANNELS, Detector, detect
from difana.data.generate.pythia.processes import PROCESSES, Process
from difana.data.generate.pythia.read import JET_COLUMNS, read_generated, shower_variations
from difana.data.generate.pythia.settings import SHOWER_WEIGHTS, Generation
from difana.data.generate.pythia.simulate import simulate
from difana.data.generate.pythia.systematics import (
    ConstituentScale,
    TrackingEfficiency,
    jet_systematics,
)
from difana.data.generate.pythia.write import write_generated

__all__ = [
    "CHANNELS",
    "JET_COLUMNS",
    "PROCESSES",
    "SHOWER_WEIGHTS",
    "ConstituentScale",
    "Detector",
    "Generation",
    "Process",
    "TrackingEfficiency",
    "detect",
    "jet_systematics",
    "read_generated",
    "shower_variations",
    "simulate",
    "write_generated",
]
