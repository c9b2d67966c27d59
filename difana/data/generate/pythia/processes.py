"""The processes that can be generated: what Pythia is told, and what becomes a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from difana._errors import ConfigError, nearest

_QUARKS = "1 2 3 4 5"
_TOPS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")
_HADRONIC = ("24:onMode = off", f"24:onIfAny = {_QUARKS}")
_INVISIBLE = ("23:onMode = off", "23:onIfAny = 12 14 16", "WeakZ0:gmZmode = 2")
# of arXiv:2101.08320: a vector of 3.5 TeV, two unstable particles, all decays to light quarks
_RESONANCES = (
    "NewGaugeBoson:ffbar2Wprime = on",
    "34:m0 = 3500",
    "34:doForceWidth = on",
    "34:mWidth = 35",
    "9000001:new = X Xbar 1 3 0 500 5 400 600 0",
    "9000001:isResonance = on",
    "9000001:oneChannel = 1 1.0 101 2 -1",
    "9000002:new = Y void 1 0 0 100 1 80 120 0",
    "9000002:isResonance = on",
    "9000002:oneChannel = 1 0.5 101 1 -1",
    "9000002:addChannel = 1 0.5 101 2 -2",
    "34:oneChannel = 1 1.0 101 9000001 9000002",
)


@dataclasses.dataclass(frozen=True)
class Process:
    """What is generated, and what is kept of it.

    Attributes:
        about: One line on it.
        commands: Settings of Pythia, one ``key = value`` each.
        rows: Whether a row of the file is one jet or one event.
        heads: Identifiers of the decaying particles whose partons are kept.
        partons: Identifiers (without sign) of the hard partons that a jet may come from; any if
            empty.
        radius: Radius parameter of the anti-kT jets.
        pt_min: Smallest transverse momentum of a jet, GeV.
        pt_max: Largest one of jets as rows, GeV.
        leading: Smallest transverse momentum of the leading jet of an event, GeV.
        eta_max: Largest absolute pseudorapidity of a jet.
        jets: Number of jets that are kept of an event, leading ones.
        hard: Smallest transverse momentum of the hard process, as a share of ``pt_min`` (jets) or
            ``leading`` (events).
        alternatives: Further settings, of which one set after the other is used.
    """

    about: str
    commands: tuple[str, ...]
    rows: Literal["jets", "events"] = "jets"
    heads: tuple[int, ...] = ()
    partons: tuple[int, ...] = ()
    radius: float = 0.8
    pt_min: float = 550.0
    pt_max: float = 650.0
    leading: float = 0.0
    eta_max: float = 2.0
    jets: int = 2
    hard: float = 0.85
    alternatives: tuple[tuple[str, ...], ...] = ((),)


_RESOLVED: dict[str, Any] = {
    "rows": "events",
    "heads": (6, -6),
    "radius": 0.4,
    "pt_min": 25.0,
    "eta_max": 2.5,
    "jets": 16,
    "hard": 0.0,
}
_PAIR: dict[str, Any] = {"rows": "events", "radius": 1.0, "pt_min": 200.0, "eta_max": 2.5}

PROCESSES: Mapping[str, Process] = {
    "qcd": Process("jets of quarks and gluons from dijets", ("HardQCD:all = on",), hard=0.9),
    "top": Process(
        "jets that hold all three quarks of a hadronic top",
        (*_TOPS, *_HADRONIC),
        heads=(6, -6),
    ),
    "w": Process(
        "jets that hold both quarks of a W",
        ("WeakDoubleBoson:ffbar2WW = on", *_HADRONIC),
        heads=(24, -24),
    ),
    "z": Process(
        "jets that hold both quarks of a Z",
        (
            "WeakDoubleBoson:ffbar2gmZgmZ = on",
            "WeakZ0:gmZmode = 2",
            "23:onMode = off",
            f"23:onIfAny = {_QUARKS}",
        ),
        heads=(23,),
    ),
    "quark": Process(
        "jets of light quarks beside an invisible Z",
        ("WeakBosonAndParton:qg2gmZq = on", *_INVISIBLE),
        partons=(1, 2, 3),
        radius=0.4,
        pt_min=500.0,
        pt_max=550.0,
        jets=1,
        hard=0.9,
    ),
    "gluon": Process(
        "jets of gluons beside an invisible Z",
        ("WeakBosonAndParton:qqbar2gmZg = on", *_INVISIBLE),
        partons=(21,),
        radius=0.4,
        pt_min=500.0,
        pt_max=550.0,
        jets=1,
        hard=0.9,
    ),
    "ttbar_hadronic": Process("top pairs, six quarks", (*_TOPS, *_HADRONIC), **_RESOLVED),
    "ttbar_semileptonic": Process(
        "top pairs, one electron or muon",
        _TOPS,
        **_RESOLVED,
        alternatives=tuple(
            ("24:onMode = off", f"24:on{a}IfAny = 11 13", f"24:on{b}IfAny = {_QUARKS}")
            for a, b in (("Pos", "Neg"), ("Neg", "Pos"))
        ),
    ),
    "ttbar_dilepton": Process(
        "top pairs, two electrons or muons",
        (*_TOPS, "24:onMode = off", "24:onIfAny = 11 13"),
        **_RESOLVED,
    ),
    "zprime": Process(
        "a vector of 2 TeV that decays to two boosted hadronic tops",
        (
            "NewGaugeBoson:ffbar2gmZZprime = on",
            "Zprime:gmZmode = 3",
            "32:m0 = 2000",
            "32:onMode = off",
            "32:onIfAny = 6",
            *_HADRONIC,
        ),
        heads=(6, -6),
        rows="events",
        radius=0.8,
        pt_min=200.0,
        leading=500.0,
        eta_max=2.5,
        hard=0.0,
    ),
    "zprime_dijets": Process(
        "dijets with the selection of zprime",
        ("HardQCD:all = on",),
        rows="events",
        radius=0.8,
        pt_min=200.0,
        leading=500.0,
        eta_max=2.5,
        hard=0.85,
    ),
    "wprime": Process(
        "W' (3.5 TeV) -> X (500 GeV) Y (100 GeV) -> four quarks, as in the LHC Olympics",
        _RESONANCES,
        **_PAIR,
        heads=(9000001, 9000002),
        leading=1200.0,
        hard=0.0,
    ),
    "dijets": Process(
        "dijets with the selection of wprime, side bands included",
        ("HardQCD:all = on",),
        **_PAIR,
        leading=1200.0,
    ),
}
"""All processes by name."""


def process_named(name: str) -> Process:
    """Return a process.

    Raises:
        ConfigError: If there is none of this name.

    Example:
        >>> process_named("top").heads
        (6, -6)
        >>> process_named("tpo")
        Traceback (most recent call last):
        difana._errors.ConfigError: no process 'tpo', known: dijets, ... Did you mean 'top'?
    """
    if name not in PROCESSES:
        known = ", ".join(sorted(PROCESSES))
        raise ConfigError(f"no process '{name}', known: {known}.{nearest(name, PROCESSES)}")
    return PROCESSES[name]
