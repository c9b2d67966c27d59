"""Generated rows as events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data.events import Events
from difana.data.files import read_events
from difana.data.generate.pythia.detector import CHANNELS
from difana.data.generate.pythia.settings import SHOWER_WEIGHTS
from difana.data.samples import WeightVariation

JET_COLUMNS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_tau1", "jet_tau2", "jet_tau3")
"""Columns of a jet that `read_generated` reads by default."""


def read_generated(
    path: str | Path, *, columns: Any = JET_COLUMNS, max_particles: int = 100, **options: Any
) -> Events:
    """Return generated jets as events with particles.

    Of files with one row an event name the columns, e.g. ``{"m": "jet_mass[:, 0]"}``; the
    particles are then those of all jets, and ``selection`` and so on are those of
    `difana.data.read_events`.

    Args:
        path: What `write_generated` wrote.
        columns: Features.
        max_particles: Number of particles to pad or cut to, leading ones.
        **options: Further options of `difana.data.read_events`.

    Example:
        >>> read_generated("jets.parquet").particle_columns[:2]  # doctest: +SKIP
        ('part_pt', 'part_eta')
    """
    own: dict[str, Any] = {
        "weight": "weight", "particles": list(CHANNELS), "leading": "part_pt",
    }  # fmt: skip
    return read_events(path, columns=columns, max_particles=max_particles, **{**own, **options})


def shower_variations(path: str | Path, events: Events) -> tuple[WeightVariation, ...]:
    """Return the variations by shower-scale weights of all rows of a file.

    They keep the total yield of the sample: a shower does not change a cross-section.

    Args:
        path: What `write_generated` wrote, with shower weights.
        events: The events read from it, without a selection.

    Raises:
        InputError: If the file has other rows than the events.
    """
    table = read_events(path, columns=list(SHOWER_WEIGHTS), dtype=np.float64)
    if len(table) != len(events):
        raise InputError(f"'{path}' has {len(table)} rows, the events are {len(events)}: read all")
    found = []
    for name in ("isr", "fsr"):
        sides = {}
        for side in ("up", "down"):
            weights = table[f"weight_{name}_{side}"]
            sides[side] = weights * (events.weights.sum() / weights.sum())
        found.append(WeightVariation(**sides, name=f"shower_{name}"))
    return tuple(found)
