"""Anti-kT jets of many events at once, and their N-subjettiness."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int


def anti_kt(
    p: Float[np.ndarray, "particles 4"],
    counts: Int[np.ndarray, " events"],
    *,
    radius: float,
    pt_min: float,
) -> tuple[Any, Any]:
    """Return jets and their constituents, leading jets first.

    Args:
        p: Momenta ``(px, py, pz, E)`` of the particles of all events.
        counts: Number of particles of each event.
        radius: Radius parameter.
        pt_min: Smallest transverse momentum, GeV.

    Returns:
        Momenta of the jets, an awkward record of ``px, py, pz, E``, and the indices of their
        constituents within the event.

    References:
        Cacciari, Salam, Soyez, arXiv:0802.1189, arXiv:1111.6097.
    """
    import awkward as ak
    import fastjet

    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    clusters: Any = fastjet.ClusterSequence(_momenta(p, counts), definition)
    jets, constituents = clusters.inclusive_jets(pt_min), clusters.constituent_index(pt_min)
    order = ak.argsort(jets.px**2 + jets.py**2, axis=1, ascending=False)
    return jets[order], constituents[order]


def n_subjettiness(
    p: Float[np.ndarray, "particles 4"], counts: Int[np.ndarray, " jets"], *, radius: float
) -> Float[np.ndarray, "jets 3"]:
    r"""Return :math:`\tau_1, \tau_2, \tau_3` with exclusive kT axes.

    .. math:: \tau_N = \frac{\sum_i p_{T,i} \min_a \Delta R_{ia}}{R \sum_i p_{T,i}}

    With fewer particles than axes it is zero.

    Args:
        p: Momenta of the constituents of all jets.
        counts: Number of constituents of each jet.
        radius: Radius :math:`R` of the jets.

    References:
        Thaler, Van Tilburg, arXiv:1011.2268 eq. (1).
    """
    import awkward as ak
    import fastjet

    momenta = _momenta(p, counts)
    pt, eta, phi = (ak.unflatten(x, counts) for x in cylindrical(p)[:3])
    total = radius * np.asarray(ak.sum(pt, axis=1))
    found = np.zeros((len(counts), 3))
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 1.5)
    for number in (1, 2, 3):
        enough = np.flatnonzero(counts >= number)
        if not len(enough):
            continue
        with warnings.catch_warnings():  # all exclusive jets are to be read with care, it says
            warnings.simplefilter("ignore", UserWarning)
            axes = fastjet.ClusterSequence(momenta[enough], definition).exclusive_jets(
                n_jets=number
            )
        axes = np.stack([ak.to_numpy(axes[name]) for name in ("px", "py", "pz", "E")], axis=-1)
        _, axis_eta, axis_phi, _ = cylindrical(axes.reshape(-1, 4))
        nearest = None
        for a in range(number):
            d_eta = eta[enough] - axis_eta.reshape(-1, number)[:, a]
            d_phi = (phi[enough] - axis_phi.reshape(-1, number)[:, a] + np.pi) % (2 * np.pi) - np.pi
            distance = np.hypot(d_eta, d_phi)
            nearest = distance if nearest is None else np.minimum(nearest, distance)
        found[enough, number - 1] = np.asarray(ak.sum(pt[enough] * nearest, axis=1))
    return found / np.maximum(total, 1e-12)[:, None]


def cylindrical(
    p: Float[np.ndarray, "particles 4"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return transverse momentum, pseudorapidity, azimuth and mass of ``(px, py, pz, E)``.

    Example:
        >>> [round(float(x[0]), 3) for x in cylindrical(np.array([[3.0, 4.0, 0.0, 13.0]]))]
        [5.0, 0.0, 0.927, 12.0]
    """
    px, py, pz, energy = p.T
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-9))
    mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0))
    return pt, eta, np.arctan2(py, px), mass


def _momenta(p: np.ndarray, counts: np.ndarray) -> Any:
    import awkward as ak

    fields = dict(zip(("px", "py", "pz", "E"), p.T, strict=True))
    return ak.unflatten(ak.zip(fields, with_name="Momentum4D"), counts)
