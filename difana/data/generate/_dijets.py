"""Two-body kinematics and a toy calorimeter for the generated resonance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Jets = tuple[Float[np.ndarray, "4 events"], Float[np.ndarray, "4 events"]]
"""Four-momenta (E, px, py, pz) of two massless jets."""


def decay(
    mass: np.ndarray, pt: np.ndarray, rapidity: np.ndarray, cosine: np.ndarray, azimuth: np.ndarray
) -> Jets:
    """Return the two massless decay products of a resonance that moves along x and z.

    Args:
        mass: Mass of the resonance, GeV.
        pt: Its transverse momentum, GeV.
        rapidity: Its rapidity.
        cosine: Cosine of the decay angle to the beam, in its rest frame.
        azimuth: Azimuth of the decay, in its rest frame.

    Example:
        >>> one, two = decay(*(np.array([x]) for x in (125.0, 40.0, 0.5, 0.3, 1.0)))
        >>> total = one + two
        >>> round(float(np.sqrt(total[0] ** 2 - (total[1:] ** 2).sum(axis=0))[0]), 6)
        125.0
    """
    sine = np.sqrt(np.maximum(1 - cosine**2, 0.0))
    direction = np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine])
    gamma, boost = np.sqrt(1 + (pt / mass) ** 2), pt / mass
    jets = []
    for sign in (1.0, -1.0):
        energy = mass / 2
        px, py, pz = sign * energy * direction
        energy, px = gamma * energy + boost * px, gamma * px + boost * energy
        cosh, sinh = np.cosh(rapidity), np.sinh(rapidity)
        jets.append(np.stack([cosh * energy + sinh * pz, px, py, cosh * pz + sinh * energy]))
    return jets[0], jets[1]


def reconstruct(
    jets: Jets, noise: Float[np.ndarray, "2 events"], factor: float
) -> dict[str, np.ndarray]:
    """Smear the jet energies and return features and acceptance.

    Args:
        jets: True four-momenta, GeV.
        noise: Standard normal numbers, one a jet.
        factor: Factor on the resolution ``0.8 / sqrt(E) (+) 0.05``.
    """
    smeared = []
    for jet, z in zip(jets, noise, strict=True):
        resolution = factor * np.hypot(0.8 / np.sqrt(jet[0]), 0.05)
        smeared.append(jet * np.maximum(1 + resolution * z, 0.2))
    pair = smeared[0] + smeared[1]
    mass = np.sqrt(np.maximum(pair[0] ** 2 - (pair[1:] ** 2).sum(axis=0), 0.0))
    pts = [np.hypot(jet[1], jet[2]) for jet in smeared]
    etas = [np.arcsinh(jet[3] / pt) for jet, pt in zip(smeared, pts, strict=True)]
    table = {
        "mass": mass,
        "pt_lead": np.maximum(*pts),
        "pt_sub": np.minimum(*pts),
        "pt_pair": np.hypot(pair[1], pair[2]),
        "delta_eta": np.abs(etas[0] - etas[1]),
        "eta_pair": np.abs(etas[0] + etas[1]) / 2,
    }
    table["accepted"] = (
        (table["pt_sub"] > 20)
        & (np.abs(etas[0]) < 2.8)
        & (np.abs(etas[1]) < 2.8)
        & (mass > 60)
        & (mass < 250)
    )
    return table
