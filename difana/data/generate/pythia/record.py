"""The event records of a batch as flat arrays, and what can be read from them without loops."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

_STEPS = 8  # of pointer doubling: ancestors up to 256 generations away
INVISIBLE = (12, 14, 16)
NAMES = {"charged_hadron": 0, "neutral_hadron": 1, "photon": 2, "electron": 3, "muon": 4}
"""Codes of the channel ``part_type``."""
ORIGINS = {"primary": 0, "b": 1, "b_to_c": 2, "c": 3, "tau": 4, "secondary": 5}
"""Codes of the channel ``part_origin``."""


@dataclasses.dataclass(frozen=True)
class Record:
    """All particles of some events, one after the other.

    Attributes:
        counts: Number of particles of each event.
        event: Event of each particle.
        id: PDG identifiers.
        status: Status codes of Pythia; positive for final particles.
        mother: First mother, counted through all particles.
        daughters: First and last daughter, counted through all particles.
        p: Momenta ``(px, py, pz, E)``, GeV.
        m: Masses, GeV.
        vertex: Places of production ``(x, y, z)``, mm.
    """

    counts: Int[np.ndarray, " events"]
    event: Int[np.ndarray, " particles"]
    id: Int[np.ndarray, " particles"]
    status: Int[np.ndarray, " particles"]
    mother: Int[np.ndarray, " particles"]
    daughters: Int[np.ndarray, "particles 2"]
    p: Float[np.ndarray, "particles 4"]
    m: Float[np.ndarray, " particles"]
    vertex: Float[np.ndarray, "particles 3"]

    @classmethod
    def of(cls, particles: Any) -> Record:
        """Return the record of the awkward array that Pythia makes."""
        import awkward as ak

        def flat(array: Any) -> np.ndarray:
            return np.asarray(ak.to_numpy(ak.flatten(array, axis=1)))

        counts = np.asarray(ak.to_numpy(ak.num(particles.id, axis=1)))
        event = np.repeat(np.arange(len(counts)), counts)
        offset = np.repeat(np.cumsum(counts) - counts, counts)
        first = flat(particles.daughter1)
        last = np.where(first > 0, np.maximum(flat(particles.daughter2), first), 0)
        place = particles.vProd
        return cls(
            counts,
            event,
            flat(particles.id),
            flat(particles.status),
            offset + flat(particles.mother1),
            np.stack([offset + first, offset + last], axis=1),
            np.stack([flat(getattr(particles.p, name)) for name in ("px", "py", "pz", "e")], 1),
            flat(particles.m),
            np.stack([flat(ak.fill_none(place[name], 0.0)) for name in ("px", "py", "pz")], 1),
        )

    def inherited(self, own: Bool[np.ndarray, " particles"]) -> Bool[np.ndarray, " particles"]:
        """Return who has the property, or an ancestor with it (by first mothers)."""
        found, ancestor = own, self.mother
        for _ in range(_STEPS):
            found = found | found[ancestor]
            ancestor = ancestor[ancestor]
        return found

    def last_copies(self, head: int, *, most: int, signed: bool) -> Int[np.ndarray, "events most"]:
        """Return the last copies of a particle before it decays, -1 where there are fewer.

        Args:
            head: Its identifier.
            most: Largest number in an event.
            signed: Whether its antiparticle is another one.
        """
        same = self.id == head if signed else np.abs(self.id) == abs(head)
        other = self.id[self.daughters[:, 0]] != self.id
        index = np.flatnonzero(same & (self.status < 0) & other)
        event = self.event[index]
        rank = np.arange(len(index)) - np.searchsorted(event, event)
        found = np.full((len(self.counts), most), -1)
        keep = rank < most
        found[event[keep], rank[keep]] = index[keep]
        return found


def partons(record: Record, heads: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return the decaying particles and the partons of their decays.

    A top has the partons (b, and two of the W: first the one of larger identifier), everything else
    two and a third of zeros.

    Returns:
        ``head [events, heads]`` and ``decay [events, heads, 3]``: indices, -1 for none.
    """
    most = 2 if len(heads) == 1 else 1  # two of them in one event
    head = [record.last_copies(name, most=most, signed=-name in heads) for name in heads]
    index = np.concatenate(head, axis=1) if head else np.zeros((len(record.counts), 0), int)
    decay = np.full((*index.shape, 3), -1)
    for column in range(index.shape[1]):
        found, there = index[:, column], index[:, column] >= 0
        one, two = record.daughters[found].T
        if abs(heads[min(column, len(heads) - 1)]) == 6:
            first_is_w = np.abs(record.id[one]) == 24
            w, b = np.where(first_is_w, one, two), np.where(first_is_w, two, one)
            for _ in range(40):  # recoils: copies of the W
                same = record.id[record.daughters[w, 0]] == record.id[w]
                w = np.where(same, record.daughters[w, 0], w)
            one, two = record.daughters[w].T
            swap = record.id[one] < record.id[two]
            one, two = np.where(swap, two, one), np.where(swap, one, two)
            decay[:, column] = np.stack([b, one, two], axis=1)
        else:
            decay[:, column, :2] = np.stack([one, two], axis=1)
        decay[~there, column] = -1
    return {"head": index, "decay": decay}


def types_of(
    identifiers: Int[np.ndarray, " particles"], charge: Int[np.ndarray, " particles"]
) -> Int[np.ndarray, " particles"]:
    """Return the kind of each particle, a code of ``NAMES``.

    Example:
        >>> types_of(np.array([211, 130, 22, -11, 13]), np.array([1, 0, 0, 1, -1])).tolist()
        [0, 1, 2, 3, 4]
    """
    size = np.abs(identifiers)
    code = np.where(charge != 0, NAMES["charged_hadron"], NAMES["neutral_hadron"])
    for name, number in (("photon", 22), ("electron", 11), ("muon", 13)):
        code = np.where(size == number, NAMES[name], code)
    return code.astype(np.int8)


def is_hadron_with(quark: int, identifiers: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Return which identifiers are hadrons whose heaviest quark is this one.

    Example:
        >>> is_hadron_with(5, np.array([511, -5122, 5, 5103, 421])).tolist()
        [True, True, False, False, False]
    """
    size = np.abs(identifiers) % 10_000
    hadron = (size > 100) & ((size // 10) % 10 > 0)  # diquarks have a zero there
    baryon = size // 1000 % 10
    return hadron & (np.where(baryon > 0, baryon, size // 100 % 10) == quark)


def origins(record: Record) -> Int[np.ndarray, " particles"]:
    """Return where each particle comes from, a code of ``ORIGINS``."""
    bottom, charm = (record.inherited(is_hadron_with(q, record.id)) for q in (5, 4))
    tau = record.inherited(np.abs(record.id) == 15)
    far = np.linalg.norm(record.vertex, axis=1) > 1e-3
    code = np.where(far, ORIGINS["secondary"], ORIGINS["primary"])
    for name, flag in (
        ("tau", tau),
        ("c", charm),
        ("b", bottom & ~charm),
        ("b_to_c", bottom & charm),
    ):
        code = np.where(flag, ORIGINS[name], code)
    return code.astype(np.int8)


def prompt_leptons(record: Record) -> Bool[np.ndarray, " particles"]:
    """Return the final electrons and muons that no hadron made."""
    hadrons = (np.abs(record.id) > 100) & (np.abs(record.status) > 80)
    lepton = np.isin(np.abs(record.id), (11, 13)) & (record.status > 0)
    return lepton & ~record.inherited(hadrons)
