"""Pre-processing of jets: pure functions of padded four-momenta ``(E, px, py, pz)``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from difana._numerics import safe_sqrt

Momenta = Float[Array, "*batch 4"]
Cloud = Float[Array, "events particles 4"]
Mask = Bool[Array, "events particles"]

SMALL = 1e-8
"""Smallest argument of a logarithm."""


def four_momenta(cylindrical: Momenta) -> Momenta:
    """Return ``(E, px, py, pz)`` of ``(pT, eta, phi, mass)``.

    Example:
        >>> four_momenta(jnp.array([3.0, 0.0, 0.0, 4.0])).tolist()
        [5.0, 3.0, 0.0, 0.0]
    """
    pt, eta, phi, mass = jnp.moveaxis(cylindrical, -1, 0)
    pz = pt * jnp.sinh(eta)
    energy = safe_sqrt(pt**2 + pz**2 + mass**2)
    return jnp.stack([energy, pt * jnp.cos(phi), pt * jnp.sin(phi), pz], axis=-1)


def minkowski(one: Momenta, two: Momenta) -> Float[Array, " *batch"]:
    """Return the Minkowski product, signature (+, -, -, -).

    Example:
        >>> float(minkowski(jnp.array([5.0, 3.0, 0.0, 0.0]), jnp.array([5.0, 3.0, 0.0, 0.0])))
        16.0
    """
    product = one * two
    return product[..., 0] - product[..., 1:].sum(axis=-1)


def minkowski_products(p: Cloud) -> Float[Array, "events particles particles"]:
    """Return the products of all pairs of particles.

    Example:
        >>> minkowski_products(jnp.array([[[1.0, 0, 0, 1], [1.0, 0, 0, -1]]]))[0].tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """
    metric = jnp.array([1.0, -1.0, -1.0, -1.0], p.dtype)
    return jnp.einsum("eic,ejc->eij", p * metric[None, None], p)


def transverse(p: Momenta) -> tuple[Array, Array, Array]:
    """Return transverse momentum, rapidity and azimuth; finite, with finite gradients, for zeros.

    Example:
        >>> [float(x) for x in transverse(jnp.zeros(4))]
        [0.0, 0.0, 0.0]
    """
    energy, px, py, pz = jnp.moveaxis(p, -1, 0)
    there = px**2 + py**2 > 0
    pt = safe_sqrt(px**2 + py**2)
    rest = jnp.maximum(energy - pz, 1e-20)
    y = 0.5 * jnp.log1p(jnp.where(there, 2 * pz / jnp.where(there, rest, 1), 0))
    phi = jnp.arctan2(jnp.where(there, py, 0), jnp.where(there, px, 1))
    return pt, y, phi


def wrapped(angle: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return an angle between -pi and pi.

    Example:
        >>> round(float(wrapped(jnp.array(4.0))), 4)
        -2.2832
    """
    return jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi


def centred(p: Cloud, mask: Mask) -> tuple[Array, Array, Array]:
    """Return each share of the transverse momentum, rapidity and azimuth about the jet's axis.

    Example:
        >>> p = four_momenta(jnp.array([[[30.0, 1.0, 0.0, 0.0], [10.0, 1.0, 0.0, 0.0]]]))
        >>> z, y, phi = centred(p, jnp.ones((1, 2), bool))
        >>> [abs(round(float(x), 3)) for x in (z[0, 0], y[0, 0], phi[0, 0])]
        [0.75, 0.0, 0.0]
    """
    pt, y, phi = transverse(p)
    pt = jnp.where(mask, pt, 0)
    total = jnp.sum(jnp.where(mask[..., None], p, 0), axis=1)
    _, jet_y, jet_phi = transverse(total)
    share = pt / jnp.maximum(pt.sum(axis=1, keepdims=True), SMALL)
    shift = jnp.where(mask, y - jet_y[:, None], 0)
    return share, shift, jnp.where(mask, wrapped(phi - jet_phi[:, None]), 0)


def particle_features(
    p: Cloud, mask: Mask, *, jet: Float[Array, "events #particles 4"] | None = None
) -> Float[Array, "events particles 7"]:
    r"""Return the seven usual numbers of a particle in its jet, scaled to order one.

    :math:`\Delta y, \Delta\phi, \ln p_T, \ln E, \ln(p_T/p_T^{jet}), \ln(E/E^{jet}), \Delta R`, the
    last five shifted and scaled as in the configuration of ParticleNet.

    Args:
        p: Momenta.
        mask: True where a particle is real.
        jet: Momentum of the jet, seen by each particle; the sum by default.

    Example:
        >>> p = four_momenta(jnp.array([[[30.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]))
        >>> particle_features(p, jnp.array([[True, False]]))[0, 1].tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]

    References:
        Qu, Gouskos, arXiv:1902.08570 table 1.
    """
    total = jnp.sum(jnp.where(mask[..., None], p, 0), axis=1, keepdims=True) if jet is None else jet
    pt, y, phi = transverse(p)
    jet_pt, jet_y, jet_phi = transverse(total)
    dy, dphi = y - jet_y, wrapped(phi - jet_phi)
    logs, jets = [_log(x) for x in (pt, p[..., 0])], [_log(x) for x in (jet_pt, total[..., 0])]
    columns = [
        dy,
        dphi,
        (logs[0] - 1.7) * 0.7,
        (logs[1] - 2.0) * 0.7,
        (logs[0] - jets[0] + 4.7) * 0.7,
        (logs[1] - jets[1] + 4.7) * 0.7,
        (safe_sqrt(dy**2 + dphi**2) - 0.2) * 4.0,
    ]
    return jnp.where(mask[..., None], jnp.stack(columns, axis=-1), 0)


def pair_features(p: Cloud, mask: Mask) -> Float[Array, "events particles particles 4"]:
    r"""Return :math:`\ln k_T, \ln z, \ln\Delta, \ln m^2` of all pairs; zeros beside the mask.

    .. math:: \Delta = \sqrt{(y_i - y_j)^2 + (\phi_i - \phi_j)^2}, \quad
              k_T = \min(p_{T,i}, p_{T,j})\, \Delta, \quad
              z = \frac{\min(p_{T,i}, p_{T,j})}{p_{T,i} + p_{T,j}}

    Arguments of logarithms are at least 1e-8; the matrix is symmetric.

    Example:
        >>> p = four_momenta(jnp.array([[[30.0, 0.0, 0.0, 0.0], [10.0, 1.0, 0.0, 0.0]]]))
        >>> found = pair_features(p, jnp.ones((1, 2), bool))[0, 0, 1]
        >>> [round(float(x), 3) for x in jnp.exp(found)]
        [10.0, 0.25, 1.0, 325.848]

    References:
        Qu, Li, Qian, arXiv:2202.03772 eq. (3).
    """
    pt, y, phi = transverse(p)
    delta2 = (y[:, :, None] - y[:, None]) ** 2 + wrapped(phi[:, :, None] - phi[:, None]) ** 2
    delta = safe_sqrt(delta2)
    smaller = jnp.minimum(pt[:, :, None], pt[:, None])
    both = pt[:, :, None] + pt[:, None]
    total = p[:, :, None] + p[:, None]
    columns = [
        _log(smaller * delta),
        _log(smaller / jnp.maximum(both, SMALL)),
        _log(delta),
        _log(minkowski(total, total)),
    ]
    pairs = mask[:, :, None] & mask[:, None]
    return jnp.where(pairs[..., None], jnp.stack(columns, axis=-1), 0)


def _log(x: Array) -> Array:
    return jnp.log(jnp.maximum(x, SMALL))


def boosted(p: Momenta, velocity: Float[Array, "3"]) -> Momenta:
    """Return momenta seen from a frame that moves with a velocity (in units of light).

    Example:
        >>> moving = boosted(jnp.array([5.0, 0.0, 0.0, 0.0]), jnp.array([0.6, 0.0, 0.0]))
        >>> [round(float(x), 4) for x in moving]
        [6.25, -3.75, 0.0, 0.0]
    """
    return jnp.einsum("ij,...j->...i", boost_matrix(velocity).astype(p.dtype), p)


def boost_matrix(velocity: Float[Array, "3"]) -> Float[Array, "4 4"]:
    """Return the Lorentz transformation into a frame that moves with a velocity.

    Example:
        >>> bool(jnp.allclose(boost_matrix(jnp.zeros(3)), jnp.eye(4)))
        True
    """
    square = velocity @ velocity
    gamma = 1 / jnp.sqrt(1 - square)
    factor = jnp.where(square > 0, (gamma - 1) / jnp.where(square > 0, square, 1), 0)
    block = jnp.eye(3) + factor * jnp.outer(velocity, velocity)
    first = jnp.concatenate([gamma[None], -gamma * velocity])
    return jnp.concatenate([first[None], jnp.column_stack([-gamma * velocity, block])])


def rotated(
    p: Float[Array, "events particles channels"], key: PRNGKeyArray
) -> Float[Array, "events particles channels"]:
    """Return jets turned by random angles about their own axes, for augmentation.

    Energies and masses stay. Padding holds zeros, before and after.

    Args:
        p: Momenta ``(E, px, py, pz)`` and further channels, which stay.
        key: Random key.

    Example:
        >>> import jax
        >>> p = jnp.array([[[5.0, 3.0, 1.0, 0.0], [5.0, 3.0, -1.0, 0.0]]])
        >>> turned = rotated(p, jax.random.key(0))
        >>> bool(jnp.allclose(turned.sum(axis=1), p.sum(axis=1), atol=1e-5))
        True
    """
    v = p[..., 1:4]
    axis = v.sum(axis=1, keepdims=True)
    size = safe_sqrt(jnp.sum(axis**2, axis=-1, keepdims=True))
    axis = jnp.broadcast_to(axis / jnp.maximum(size, SMALL), v.shape)
    angle = 2 * jnp.pi * jax.random.uniform(key, (len(p), 1, 1), p.dtype)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    along = jnp.sum(axis * v, axis=-1, keepdims=True) * axis
    turned = along + cos * (v - along) + sin * jnp.cross(axis, v)
    return jnp.concatenate([p[..., :1], turned, p[..., 4:]], axis=-1)
