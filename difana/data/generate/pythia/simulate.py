"""Pythia itself: some rows of one process, a pure function of settings and number."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from difana._errors import ConfigError, InputError
from difana._options import whole_number
from difana.data.generate.pythia.record import Record
from difana.data.generate.pythia.rows import rows_of
from difana.data.generate.pythia.settings import SHOWER_WEIGHTS, Generation

_BATCH = 50  # events at a time
_MOST_EMPTY = 60  # batches
_MISSING = "events of Pythia need pythia8mc and fastjet: pip install 'difana[pythia]'"


def simulate(generation: Generation, rows: int, *, chunk: int = 0) -> dict[str, Any]:
    """Return rows of a process, with Pythia 8 in this Python process.

    Args:
        generation: What is generated.
        rows: Number of rows.
        chunk: Number of the chunk: others have other events.

    Returns:
        Columns, awkward arrays where a row has several entries. ``weight`` and its variations are
        in pb: their sum is the cross-section behind the selection.

    Raises:
        ConfigError: If Pythia does not know a setting, or cannot run with them.
        InputError: If no row passes the selection.
        ModuleNotFoundError: If Pythia or fastjet is missing.

    Example:
        >>> table = simulate(Generation("top"), 3)  # doctest: +SKIP
        >>> len(table["jet_pt"]), round(float(table["jet_mass"].mean()))  # doctest: +SKIP
        (3, 174)

    References:
        Bierlich et al., arXiv:2203.11601; weights: Mrenna, Skands, arXiv:1605.08352.
    """
    import awkward as ak

    whole_number("rows", rows)
    chosen = generation.chosen
    generators = [_start(generation, chunk, i) for i in range(len(chosen.alternatives))]
    parts: list[dict[str, Any]] = []
    have, tried, empty = 0, 0, 0
    while have < rows:
        pythia = generators[(tried // _BATCH) % len(generators)]
        batch = pythia.nextBatch(_BATCH)
        if not len(batch):
            raise InputError(f"Pythia makes no events of '{generation.process}' with these options")
        record = Record.of(batch.prt)
        charges = {int(i): round(pythia.particleData.charge(int(i))) for i in np.unique(record.id)}
        columns = rows_of(record, charges, chosen, particles=generation.particles)
        columns |= _weights(batch, columns["event"], generation)
        columns["event"] = columns["event"] + tried
        tried += len(batch)
        have += len(columns["event"])
        parts.append(columns)
        empty = 0 if len(columns["event"]) else empty + 1
        if empty == _MOST_EMPTY:
            raise InputError(
                f"none of {empty * _BATCH} events of '{generation.process}' passes: lower pt_min"
                " or widen the range"
            )
    columns = {name: ak.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}
    columns = {name: _plain(values) for name, values in columns.items()}
    # mb -> pb; alternatives are parts of one process, each with its share of the events
    sigma = 1e9 * sum(pythia.infoPython().sigmaGen() for pythia in generators)
    for name in ("weight", *SHOWER_WEIGHTS):
        if name in columns:
            columns[name] = columns[name] * (sigma / (columns["event"][-1] + 1))
    return columns


def _start(generation: Generation, chunk: int, alternative: int) -> Any:
    """Return Pythia, initialised."""
    try:
        import fastjet  # noqa: F401
        import pythia8mc
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_MISSING, name=error.name) from error
    words = f"{generation.process} {generation.seed} {chunk} {alternative}".encode()
    seed = 1 + int.from_bytes(hashlib.sha256(words).digest()[:8], "little") % 900_000_000
    pythia = pythia8mc.Pythia("", False)  # noqa: FBT003  # no banner
    own = generation.chosen.alternatives[alternative]
    for command in (*generation.pythia_commands(seed=seed), *own):
        if not pythia.readString(command):
            raise ConfigError(f"Pythia does not know the setting '{command}'.")
    if not pythia.init():
        raise ConfigError(
            f"Pythia cannot run '{generation.process}' with these settings: see its messages above."
        )
    return pythia


def _weights(batch: Any, event: np.ndarray, generation: Generation) -> dict[str, np.ndarray]:
    """Return nominal weight and its variations; Pythia puts the named ones at the end."""
    import awkward as ak

    found = {"weight": np.ones(len(event))}
    if generation.shower_weights:
        weights = np.asarray(ak.to_numpy(batch.info.weights))[event]
        for i, name in enumerate(SHOWER_WEIGHTS):
            found[name] = weights[:, i - len(SHOWER_WEIGHTS)] / weights[:, 0]
    return found


def _plain(values: Any) -> Any:
    import awkward as ak

    return ak.to_numpy(values) if values.ndim == 1 else values
