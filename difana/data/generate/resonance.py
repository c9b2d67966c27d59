"""A small dijet search: a resonance over a falling continuum and beside a Z peak."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana.data.events import Events
from difana.data.generate._dijets import Jets, decay, reconstruct
from difana.data.samples import (
    AbstractVariation,
    Normalisation,
    Sample,
    ShiftedEvents,
    WeightVariation,
)
from difana.data.transform import transformation
from difana.data.write import to_root

RESONANCE_COLUMNS = ("mass", "pt_lead", "pt_sub", "pt_pair", "delta_eta", "eta_pair")
"""Reconstructed features, branches of the files."""

RESONANCE_UNITS = ("GeV", "GeV", "GeV", "GeV", "", "")
"""Units of the features."""

RESONANCE_TRANSFORMATION: Mapping[str, str] = {
    name: f"{name} * (1 + 0.03 * alpha)" for name in ("mass", "pt_lead", "pt_sub", "pt_pair")
}
"""The jet energy scale, 3 %: exact, as every jet scales alike and jets are massless."""

RESONANCE_YIELDS: Mapping[str, float] = {"signal": 100.0, "continuum": 5000.0, "peaking": 15000.0}
"""Expected events of each process."""

RESONANCE_NORMALISATIONS: Mapping[str, float] = {"continuum": 0.2, "peaking": 0.2}
"""Relative uncertainties of the background yields."""

_PROCESSES = tuple(RESONANCE_YIELDS)
_SMEARED = ("signal", "peaking")  # a falling spectrum hardly feels the resolution
_RESOLUTION = 0.15
_SLOPE = 1.0
_MASS = 125.0


def resonance(*, seed: int = 1, events: int = 50_000) -> tuple[Sample, ...]:
    """Return the demonstration analysis in memory; `write_resonance` writes the same to files.

    A scalar of 125 GeV decays into two jets, over a steeply falling multijet continuum and beside
    Z -> jets, whose peak at 91 GeV leaks into the signal region: the jets are smeared with a
    resolution of ``0.8 / sqrt(E) (+) 0.05``. The mass separates best and suffers most from the
    nuisances; momenta and angles separate less and suffer less.

    Nuisances: ``jet_scale`` (3 %, an exact transformation), ``jet_resolution`` (15 %, separate
    events), ``slope`` of the continuum (weights) and the normalisations of the backgrounds (20 %).

    Args:
        seed: Seed of the generator.
        events: Number of simulated events of each process.

    Returns:
        The samples ``signal`` (free factor ``mu``), ``continuum`` and ``peaking``.

    Example:
        >>> signal, continuum, peaking = resonance(events=100)
        >>> [variation.name for variation in peaking.variations]
        ['jet_scale', 'jet_resolution', 'norm_peaking']
    """
    return tuple(_sample(process, seed, events) for process in _PROCESSES)


def write_resonance(
    directory: str | Path, *, seed: int = 1, events: int = 50_000
) -> dict[str, Path]:
    """Write the demonstration analysis to ROOT files, one tree ``events`` each.

    The branches are `RESONANCE_COLUMNS`, ``weight``, ``event`` (the number of the simulated event,
    shared by a nominal and a shifted file) and, in nominal files, ``weight_up`` and
    ``weight_down``: the slope of the continuum, the modelling of the transverse momentum of the
    others.

    Args:
        directory: Folder of the files, made if missing.
        seed: Seed of the generator.
        events: Number of simulated events of each process.

    Returns:
        Path by name: ``signal``, ``continuum``, ``peaking``, and ``<name>_resolution_up`` and
        ``<name>_resolution_down`` of signal and peaking background.

    Example:
        >>> import tempfile
        >>> from difana.data import read_events
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = write_resonance(folder, events=100)
        ...     read = read_events(paths["signal"], columns=["mass"], weight="weight")
        >>> len(read), round(float(read.total()), 3)
        (100, 100.0)
    """
    directory = Path(directory).expanduser()
    directory.mkdir(parents=True, exist_ok=True)
    paths = {}
    for process in _PROCESSES:
        for name, tables in _simulate(process, seed, events).items():
            label = f"{process}{name}"
            known = (*RESONANCE_COLUMNS, "weight")
            extra = {key: values for key, values in tables.items() if key not in known}
            path = directory / f"{label}.root"
            paths[label] = to_root(_events(tables), path, extra=extra)
    return paths


def _sample(process: str, seed: int, events: int) -> Sample:
    tables = _simulate(process, seed, events)
    nominal = tables[""]
    variations: list[AbstractVariation] = [
        transformation("jet_scale", RESONANCE_TRANSFORMATION, RESONANCE_COLUMNS)
    ]
    if process in _SMEARED:
        up, down = (_events(tables[f"_resolution_{side}"]) for side in ("up", "down"))
        variations.append(ShiftedEvents(up=up, down=down, name="jet_resolution"))
    else:
        up, down = (jnp.asarray(nominal[f"weight_{side}"]) for side in ("up", "down"))
        variations.append(WeightVariation(up=up, down=down, name="slope"))
    if process in RESONANCE_NORMALISATIONS:
        size = RESONANCE_NORMALISATIONS[process]
        up, down = jnp.asarray(1.0 + size), jnp.asarray(1.0 - size)
        variations.append(Normalisation(up=up, down=down, name=f"norm_{process}"))
    return Sample(
        _events(nominal),
        tuple(variations),
        name=process,
        normfactors=("mu",) if process == "signal" else (),
    )


def _events(table: Mapping[str, np.ndarray]) -> Events:
    features = np.stack([table[name] for name in RESONANCE_COLUMNS], axis=1)
    return Events(
        jnp.asarray(features.astype(np.float32)),
        jnp.asarray(table["weight"]),
        columns=RESONANCE_COLUMNS,
        units=RESONANCE_UNITS,
    )


def _simulate(process: str, seed: int, events: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the tables of one process by suffix: nominal (no suffix) and resolution up, down."""
    if events < 1:
        raise InputError(f"events must be at least 1, got {events}")
    factors = {"": 1.0}
    if process in _SMEARED:
        factors |= {"_resolution_up": 1 + _RESOLUTION, "_resolution_down": 1 - _RESOLUTION}
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in factors}
    passed, made = 0, 0
    while passed < events:
        rng = np.random.default_rng([seed, _PROCESSES.index(process), made])
        size = 2 * (events - passed) + 100
        jets, weights = _truth(process, rng, size)
        noise = rng.standard_normal((2, size))
        for name, factor in factors.items():
            table = reconstruct(jets, noise, factor) | weights
            table["event"] = np.arange(made, made + size)
            ok = table.pop("accepted")
            found[name].append({key: values[ok] for key, values in table.items()})
        passed += len(found[""][-1]["event"])
        made += size
    tables = {
        name: {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for name, parts in found.items()
    }
    # a shifted file ends at the same simulated event, so that acceptances may differ
    last = tables[""]["event"][events - 1]
    for name, table in tables.items():
        tables[name] = {key: values[table["event"] <= last] for key, values in table.items()}
    unit = RESONANCE_YIELDS[process] / tables[""]["weight"].sum()
    for name, table in tables.items():
        table["weight"] *= unit
        for side in ("weight_up", "weight_down"):
            shape = table.pop(side)
            if not name:
                weights = table["weight"] * shape
                table[side] = weights * (table["weight"].sum() / weights.sum())
    return tables


def _truth(
    process: str, rng: np.random.Generator, size: int
) -> tuple[Jets, dict[str, Float[np.ndarray, " events"]]]:
    """Return the jets before the detector, and weights with their variations."""
    pt_scale = {"signal": 16.0, "continuum": 15.0, "peaking": 15.0}[process]
    pt_shape = 1.6 if process == "continuum" else 2.0
    width = {"signal": 0.9, "continuum": 1.4, "peaking": 1.2}[process]
    pt = rng.gamma(pt_shape, pt_scale, size)
    rapidity = rng.normal(0.0, width, size)
    u = rng.uniform(size=size)
    v = rng.uniform(-1.0, 1.0, size)
    if process == "signal":
        mass = np.full(size, _MASS)
        cosine = v  # a scalar decays isotropically
    elif process == "peaking":
        low, high = np.arctan((np.array([50.0, 200.0]) - 91.2) / 1.25)
        mass = 91.2 + 1.25 * np.tan(low + u * (high - low))  # Breit-Wigner
        # 1 + cos^2: the real root of c^3 + 3 c = 4 v
        root = np.cbrt(2 * v + np.sqrt(4 * v**2 + 1))
        cosine = root - 1 / root
    else:
        # m^-4 between 50 and 400 GeV; exchange of a gluon: flat in rapidity difference
        mass = 50.0 / np.cbrt(1 - u * (1 - (50 / 400) ** 3))
        cosine = np.tanh(1.8 * v)
    if process == "continuum":
        shape = (mass / _MASS) ** _SLOPE
    else:
        shape = np.exp(0.1 * np.tanh((pt - 30.0) / 30.0))
    weights = {
        "weight": 0.8 + 0.4 * pt / (pt + 40.0),  # a higher-order correction
        "weight_up": shape,
        "weight_down": 1 / shape,
    }
    azimuth = rng.uniform(-np.pi, np.pi, size)
    return decay(mass, pt, rapidity, cosine, azimuth), weights
