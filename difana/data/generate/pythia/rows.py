"""From event records and jets to the columns of a file: one row a jet, or one row an event."""

from __future__ import annotations

from typing import Any

import numpy as np

from difana.data.generate.pythia import record as records
from difana.data.generate.pythia.clustering import anti_kt, cylindrical, n_subjettiness
from difana.data.generate.pythia.processes import Process
from difana.data.generate.pythia.record import Record

Columns = dict[str, Any]


def rows_of(
    record: Record,
    charges: dict[int, int],
    process: Process,
    *,
    particles: int,
) -> Columns:
    """Return the columns of all rows that pass, and the event of each (``event``).

    Args:
        record: Event records.
        charges: Electric charge by PDG identifier.
        process: What is kept.
        particles: Number of constituents of a jet that are kept.
    """
    leptons = records.prompt_leptons(record)
    final = record.status > 0
    invisible = np.isin(np.abs(record.id), records.INVISIBLE)
    seen = np.flatnonzero(final & ~invisible & ~leptons)
    counts = np.bincount(record.event[seen], minlength=len(record.counts))
    jets, constituents = anti_kt(
        record.p[seen], counts, radius=process.radius, pt_min=process.pt_min
    )
    jet = _kept(jets, constituents, process)
    jet["index"] = seen[(np.cumsum(counts) - counts)[jet["owner"]] + jet["index"]]
    truth = records.partons(record, process.heads)
    if process.rows == "jets":
        jet |= _matched(record, truth, jet, process)
        jet = _chosen(jet, jet.pop("keep"))
    shape = _substructure(record, jet, process.radius)
    part = _constituents(record, jet, charges, particles)
    if process.rows == "jets":
        columns = {"event": jet["event"], **_flat(jet, shape, process)}
        return columns | {name: _jagged(x, part["counts"]) for name, x in part["columns"].items()}
    return _events(record, process, jet, shape, part, truth, leptons, invisible & final)


def _kept(jets: Any, constituents: Any, process: Process) -> Columns:
    """Return the jets that are kept as flat arrays, constituents beside them."""
    import awkward as ak

    number = np.asarray(ak.to_numpy(ak.num(jets.px, axis=1)))
    p = np.stack([ak.to_numpy(ak.flatten(jets[x])) for x in ("px", "py", "pz", "E")], axis=1)
    pt, eta, phi, mass = cylindrical(p.astype(float))
    event = np.repeat(np.arange(len(number)), number)
    inside = np.abs(eta) < process.eta_max
    if process.rows == "jets":
        inside &= pt < process.pt_max
    before = np.cumsum(inside) - inside
    rank = before - before[np.searchsorted(event, event)] if len(event) else before
    keep = inside & (rank < process.jets)
    if process.rows == "events":
        leading = np.zeros(len(number))
        np.maximum.at(leading, event[keep], pt[keep])
        enough = np.bincount(event[keep], minlength=len(number)) >= 2
        keep &= ((leading >= process.leading) & enough)[event]
    size = np.asarray(ak.to_numpy(ak.num(ak.flatten(constituents, axis=1), axis=1)))
    index = np.asarray(ak.to_numpy(ak.ravel(constituents)), int)
    kept_index = index[np.repeat(keep, size)]
    return {
        **{name: x[keep] for name, x in zip(("pt", "eta", "phi", "mass"), (pt, eta, phi, mass),
                                            strict=True)},
        "event": event[keep],
        "rank": rank[keep],
        "size": size[keep],
        "index": kept_index,
        "owner": np.repeat(event[keep], size[keep]),
    }  # fmt: skip


def _chosen(jet: Columns, keep: np.ndarray) -> Columns:
    """Return some of the jets."""
    inner = np.repeat(keep, jet["size"])
    return {
        name: values[inner] if name in ("index", "owner") else values[keep]
        for name, values in jet.items()
    }


def _matched(record: Record, truth: Columns, jet: Columns, process: Process) -> Columns:
    """Return the hard parton or decaying particle of each jet, and which jets are kept."""
    found: Columns = {}
    hard = np.flatnonzero(record.status == -23)
    parton = np.zeros(len(jet["pt"]), int)
    best = np.full(len(parton), process.radius)
    for which in range(2):  # two outgoing partons
        rank = np.arange(len(hard)) - np.searchsorted(record.event[hard], record.event[hard])
        own = np.full(len(record.counts), -1)
        own[record.event[hard[rank == which]]] = hard[rank == which]
        here = own[jet["event"]]
        distance = np.where(here >= 0, _distance(record, here, jet), np.inf)
        nearer = distance < best
        parton, best = np.where(nearer, record.id[here], parton), np.minimum(distance, best)
    found["parton"] = parton
    keep = np.ones(len(parton), bool)
    if process.partons:
        keep = np.isin(np.abs(parton), process.partons)
    if process.heads:
        keep = np.zeros(len(parton), bool)
        found["head_pt"] = np.zeros(len(parton))
        for column in range(truth["head"].shape[1]):
            head = truth["head"][jet["event"], column]
            near = (head >= 0) & (_distance(record, head, jet) < process.radius)
            for decay in truth["decay"][jet["event"], column].T:
                near &= (decay < 0) | (_distance(record, decay, jet) < process.radius)
            keep |= near
            found["parton"] = np.where(near, record.id[head], found["parton"])
            found["head_pt"] = np.where(near, np.hypot(*record.p[head, :2].T), found["head_pt"])
    found["keep"] = keep
    return found


def _distance(record: Record, index: np.ndarray, jet: Columns) -> np.ndarray:
    _, eta, phi, _ = cylindrical(record.p[index])
    turn = (phi - jet["phi"] + np.pi) % (2 * np.pi) - np.pi
    return np.hypot(eta - jet["eta"], turn)


def _substructure(record: Record, jet: Columns, radius: float) -> Columns:
    """Return N-subjettiness and heavy flavour of each jet."""
    tau = n_subjettiness(record.p[jet["index"]], jet["size"], radius=radius)
    number = np.arange(len(jet["size"]))
    owner = np.repeat(number, jet["size"])
    origin = records.origins(record)[jet["index"]]
    flavour = np.zeros(len(number), int)
    for name, value in (("c", 4), ("b", 5), ("b_to_c", 5)):
        np.maximum.at(flavour, owner[origin == records.ORIGINS[name]], value)
    return {**{f"tau{i + 1}": tau[:, i] for i in range(3)}, "flavour": flavour}


def _constituents(record: Record, jet: Columns, charges: dict[int, int], particles: int) -> Columns:
    """Return the constituents of all jets, leading ones first in each."""
    index = jet["index"]
    owner = np.repeat(np.arange(len(jet["size"])), jet["size"])
    pt, eta, phi, mass = cylindrical(record.p[index])
    order = np.lexsort((-pt, owner))
    owner, index = owner[order], index[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    cut = rank < particles
    order, owner, index = order[cut], owner[cut], index[cut]
    names, inverse = np.unique(record.id[index], return_inverse=True)
    charge = np.array([charges[int(name)] for name in names], np.int8)[inverse]
    kinds = records.types_of(record.id[index], charge)
    d0, dz = impact_parameters(record.p[index], record.vertex[index])
    charged = charge != 0
    return {
        "counts": np.bincount(owner, minlength=len(jet["size"])),
        "owner": owner,
        "columns": {
            "part_pt": pt[order].astype(np.float32),
            "part_eta": eta[order].astype(np.float32),
            "part_phi": phi[order].astype(np.float32),
            "part_mass": mass[order].astype(np.float32),
            "part_charge": charge,
            "part_type": kinds,
            "part_d0": np.where(charged, d0, 0).astype(np.float32),
            "part_dz": np.where(charged, dz, 0).astype(np.float32),
            "part_origin": records.origins(record)[index],
            "part_vertex": vertices(record.vertex[index], owner).astype(np.int16),
        },
    }


def impact_parameters(p: np.ndarray, vertex: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return transverse and longitudinal impact parameters of straight lines, in mm.

    .. math:: d_0 = \frac{x p_y - y p_x}{p_T}, \qquad
              d_z = z - \frac{(x p_x + y p_y)\, p_z}{p_T^2}

    Example:
        >>> d0, dz = impact_parameters(np.array([[1.0, 0.0, 1.0, 2.0]]), np.array([[2.0, 1.0, 5.0]]))
        >>> d0.tolist(), dz.tolist()
        ([-1.0], [3.0])
    """  # noqa: E501
    pt = np.maximum(np.hypot(p[:, 0], p[:, 1]), 1e-9)
    d0 = (vertex[:, 0] * p[:, 1] - vertex[:, 1] * p[:, 0]) / pt
    along = (vertex[:, 0] * p[:, 0] + vertex[:, 1] * p[:, 1]) / pt
    return d0, vertex[:, 2] - along * p[:, 2] / pt


def vertices(place: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the number of the vertex of each constituent within its jet; 0 is the primary one.

    Example:
        >>> place = np.array([[0, 0, 0], [0, 0, 2.0], [0, 0, 3.0], [0, 0, 2.0]])
        >>> vertices(place, np.array([0, 0, 0, 0])).tolist()
        [0, 1, 2, 1]
    """
    found = np.zeros(len(owner), int)
    far = np.flatnonzero(np.linalg.norm(place, axis=1) > 1e-3)
    if not len(far):
        return found
    keys = np.column_stack([owner[far], np.round(place[far] * 1e6)])
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    first = np.searchsorted(unique[:, 0], unique[:, 0])
    found[far] = (np.arange(len(unique)) - first + 1)[np.ravel(inverse)]
    return found


def _flat(jet: Columns, shape: Columns, process: Process) -> Columns:
    names = ["pt", "eta", "phi", "mass", *(["parton"] if process.rows == "jets" else [])]
    columns = {f"jet_{name}": jet[name] for name in names}
    columns |= {f"jet_{name}": values for name, values in shape.items()}
    columns["jet_particles"] = jet["size"]
    if "head_pt" in jet:
        columns["head_pt"] = jet["head_pt"]
    return columns


def _jagged(values: np.ndarray, counts: np.ndarray) -> Any:
    import awkward as ak

    return ak.unflatten(values, counts)


def _events(
    record: Record,
    process: Process,
    jet: Columns,
    shape: Columns,
    part: Columns,
    truth: Columns,
    leptons: np.ndarray,
    lost: np.ndarray,
) -> Columns:
    """Return one row for each event with jets."""
    events, row = np.unique(jet["event"], return_inverse=True)
    jets = np.bincount(row, minlength=len(events))
    columns: Columns = {"event": events}
    columns |= {name: _jagged(x, jets) for name, x in _flat(jet, shape, process).items()}
    inside = np.bincount(row, weights=part["counts"], minlength=len(events)).astype(int)
    columns |= {name: _jagged(x, inside) for name, x in part["columns"].items()}
    columns["part_jet"] = _jagged(jet["rank"][part["owner"]].astype(np.int8), inside)
    missing = np.zeros((len(record.counts), 2))
    np.add.at(missing, record.event[lost], record.p[lost, :2])
    columns["met_pt"] = np.hypot(*missing[events].T)
    columns["met_phi"] = np.arctan2(missing[events, 1], missing[events, 0])
    index = np.flatnonzero(leptons & np.isin(record.event, events))
    number = np.bincount(record.event[index], minlength=len(record.counts))[events]
    columns |= _momenta("lepton", record, index, number)
    if process.heads:
        heads = truth["head"].shape[1]
        index = np.concatenate([truth["head"][..., None], truth["decay"]], axis=2)[events]
        number = np.full(len(events), 4 * heads)
        columns |= _momenta("parton", record, index.reshape(-1), number)
    return columns


def _momenta(name: str, record: Record, index: np.ndarray, counts: np.ndarray) -> Columns:
    """Return momenta and identifiers of some particles; zeros for those that are missing."""
    there = index >= 0
    names = ("pt", "eta", "phi", "mass", "id")
    values = dict(zip(names, (*cylindrical(record.p[index]), record.id[index]), strict=True))
    return {f"{name}_{key}": _jagged(np.where(there, x, 0), counts) for key, x in values.items()}
