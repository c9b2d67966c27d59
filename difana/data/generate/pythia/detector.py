"""A parametrised detector: acceptance, tracking efficiency, smearing, granularity."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from difana._errors import InputError
from difana.data.generate.pythia.record import NAMES
from difana.data.inputs import Given, Inputs

CHANNELS = (
    "part_pt", "part_eta", "part_phi", "part_mass", "part_charge", "part_type", "part_d0",
    "part_dz",
)  # fmt: skip
"""Channels of a particle, in the order in which `detect` and the systematics find them.

GeV, radian, GeV, units of the charge, a code (charged hadron 0, neutral hadron 1, photon 2,
electron 3, muon 4), millimetres.
"""

PT, ETA, PHI, MASS, CHARGE, TYPE, D0, DZ = range(len(CHANNELS))


class Detector(eqx.Module):
    """Numbers of a detector, in the manner of Delphes; they may be traced.

    Attributes:
        tracking_efficiency: Probability that a charged particle has a track, above 1 GeV; it falls
            linearly to zero at ``track_pt_min``.
        track_pt_min: Smallest transverse momentum of a track, GeV.
        track_eta_max: End of the tracker.
        track_resolution: Constant and linear (per GeV) term of the relative momentum resolution.
        photon_resolution: Stochastic and constant term of the electromagnetic energy.
        hadron_resolution: The same of the hadronic energy.
        photon_cell: Size of a cell in eta and phi.
        hadron_cell: Size of a cell in eta and phi.
        calorimeter_eta_max: End of the calorimeters.
        energy_min: Smallest transverse energy of photons and neutral hadrons, GeV.
        impact_resolution: Constant (mm) and multiple-scattering (mm GeV) term of the impact
            parameters.

    References:
        de Favereau et al., arXiv:1307.6346 (Delphes 3, CMS card).
    """

    tracking_efficiency: Array | float = 0.95
    track_pt_min: Array | float = 0.5
    track_eta_max: Array | float = 2.5
    track_resolution: tuple[Array | float, Array | float] = (0.01, 1e-4)
    photon_resolution: tuple[Array | float, Array | float] = (0.05, 0.007)
    hadron_resolution: tuple[Array | float, Array | float] = (1.0, 0.05)
    photon_cell: Array | float = 0.02
    hadron_cell: Array | float = 0.1
    calorimeter_eta_max: Array | float = 5.0
    energy_min: Array | float = 0.5
    impact_resolution: tuple[Array | float, Array | float] = (0.01, 0.03)


def detect(inputs: Inputs, *, key: PRNGKeyArray, detector: Detector | None = None) -> Inputs:
    r"""Return particles as a detector sees them.

    Charged particles get a track with some probability, of momentum resolution
    :math:`\sigma(p_T)/p_T = a \oplus b\,p_T`; without one a hadron is a neutral deposit in the
    calorimeter, and a muon is lost. Photons and neutral hadrons have
    :math:`\sigma(E)/E = s/\sqrt{E} \oplus c` and the position of the middle of their cell. The
    random numbers of a particle depend on its place in the array, so that two detectors with the
    same key differ by their parameters alone.

    The jets of a file are those of the particles: what is measured of their constituents is
    summed, not clustered again.

    Args:
        inputs: True particles, channels as in `CHANNELS`; the features stay.
        key: Random key.
        detector: The numbers; the default ones if left out.

    Returns:
        What is measured; lost particles are masked.

    Raises:
        InputError: If the particles have other channels.

    Example:
        >>> particle = jnp.array([10.0, 0.5, 0.1, 0.14, 1.0, 0.0, 0.0, 0.0])
        >>> true = Inputs(jnp.zeros((1, 0)), particle[None, None], jnp.ones((1, 1), bool))
        >>> seen = detect(true, key=jax.random.key(0), detector=Detector(tracking_efficiency=1.0))
        >>> abs(float(seen.particles[0, 0, 0]) - 10) < 1
        True
    """
    x = checked(inputs).particles
    own = Detector() if detector is None else detector
    keys = jax.random.split(key, 4)
    shape = x.shape[:-1]
    pt, eta, kind = jnp.where(inputs.mask, x[..., PT], 1.0), x[..., ETA], x[..., TYPE]
    charged = x[..., CHARGE] != 0
    rise = jnp.clip((pt - own.track_pt_min) / (1.0 - own.track_pt_min), 0, 1)
    found = jax.random.uniform(keys[0], shape, pt.dtype) < own.tracking_efficiency * rise
    track = charged & found & (jnp.abs(eta) < own.track_eta_max)
    muon = kind == NAMES["muon"]
    electromagnetic = (kind == NAMES["photon"]) | (kind == NAMES["electron"])

    noise = jax.random.normal(keys[1], shape, pt.dtype)
    energy = jnp.sqrt((pt * jnp.cosh(eta)) ** 2 + x[..., MASS] ** 2)
    width = jnp.where(
        electromagnetic,
        _sum(own.photon_resolution[0] / jnp.sqrt(energy), own.photon_resolution[1]),
        _sum(own.hadron_resolution[0] / jnp.sqrt(energy), own.hadron_resolution[1]),
    )
    width = jnp.where(track, _sum(own.track_resolution[0], own.track_resolution[1] * pt), width)
    seen_pt = pt * jnp.maximum(1 + width * noise, 0.01)
    cell = jnp.where(electromagnetic, own.photon_cell, own.hadron_cell)
    middle = [jnp.where(track, v, (jnp.floor(v / cell) + 0.5) * cell) for v in (eta, x[..., PHI])]
    deposit = ~muon & (jnp.abs(eta) < own.calorimeter_eta_max) & (seen_pt > own.energy_min)

    blur = _sum(own.impact_resolution[0], own.impact_resolution[1] / pt)
    impact = [
        jnp.where(track, x[..., c] + blur * jax.random.normal(keys[k], shape, pt.dtype), 0)
        for c, k in ((D0, 2), (DZ, 3))
    ]
    lost_kind = jnp.where(electromagnetic, NAMES["photon"], NAMES["neutral_hadron"])
    columns = [
        seen_pt,
        middle[0],
        jnp.mod(middle[1] + jnp.pi, 2 * jnp.pi) - jnp.pi,
        jnp.where(track, x[..., MASS], 0),
        jnp.where(track, x[..., CHARGE], 0),
        jnp.where(track, kind, lost_kind),
        *impact,
    ]
    particles = jnp.stack([jnp.asarray(c, x.dtype) for c in columns], axis=-1)
    return Inputs(inputs.features, particles, inputs.mask & (track | deposit)).cleaned()


def checked(inputs: Given) -> Inputs:
    """Return the inputs with zeros in the padding; raise ``InputError`` for other channels."""
    if not isinstance(inputs, Inputs):
        raise InputError("a detector acts on particles: give the inputs of events with some")
    if inputs.particles.shape[-1] != len(CHANNELS):
        raise InputError(
            f"particles with {inputs.particles.shape[-1]} channels: a detector takes those of "
            f"read_generated, {list(CHANNELS)}"
        )
    return inputs.cleaned()


def _sum(one: Array | float, two: Array | float) -> Array:
    return jnp.sqrt(jnp.square(one) + jnp.square(two))
