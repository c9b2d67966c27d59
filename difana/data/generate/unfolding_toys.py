"""Unfolding toys beyond a Gaussian column: acceptance, an unknown resolution, particle clouds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana.data.generate.gaussian_levels import GaussianLevels

_FIDUCIAL, _SHIFT, _SMEAR, _RANGE = 10.0, -2.5, 0.2, 12.0


def acceptance_levels(
    *, key: PRNGKeyArray, events: int = 100_000, measured: int | None = None
) -> GaussianLevels:
    r"""Return a toy with an efficiency that rises along the observable.

    Simulation: a Breit-Wigner at 0.3 of full width 2.5; data: N(0, 2). The detector shifts by -2.5,
    smears by 0.2 and sees an event with probability :math:`0.3 + 0.7 (z + 10) / 20`, if it lies
    within 12 of the shifted centre. The fiducial region is :math:`|z| < 10`.

    Args:
        key: Random key.
        events: Number of simulated events.
        measured: Number of data events before the efficiency; None takes ``events``.

    Example:
        >>> import jax
        >>> toy = acceptance_levels(key=jax.random.key(0), events=1000)
        >>> 0.5 < float(toy.pass_reco.mean()) < 0.8
        True

    References:
        github.com/rymilton/unbinned_unfolding (generate_gaussians), arXiv:2503.09720.
    """
    key_gen, key_reco, key_truth, key_data = jax.random.split(key, 4)
    gen = 0.3 + 1.25 * jax.random.cauchy(key_gen, (events,))
    truth = 2.0 * jax.random.normal(key_truth, (measured or events,))

    def detect(z: Array, key: Array) -> tuple[Array, Array]:
        key_smear, key_seen = jax.random.split(key)
        x = z + _SHIFT + _SMEAR * jax.random.normal(key_smear, z.shape)
        seen = jax.random.uniform(key_seen, z.shape) < 0.3 + 0.7 * (z + 10) / 20
        return x, seen & (jnp.abs(x - _SHIFT) < _RANGE)

    reco, pass_reco = detect(gen, key_reco)
    data, seen = detect(truth, key_data)
    inside = jnp.abs(gen) < _FIDUCIAL
    return GaussianLevels(
        gen, reco, inside, pass_reco, data[np.asarray(seen)],
        truth[np.asarray(jnp.abs(truth) < _FIDUCIAL)],
    )  # fmt: skip


def resolution_levels(
    *, key: PRNGKeyArray, events: int = 100_000, resolution: float = 1.5
) -> GaussianLevels:
    r"""Return a toy whose second detector observable has an unknown resolution.

    Truth z: N(0, 1) in the simulation, N(0.8, 1) in the data. Detector level: :math:`z + N(0, 1)`
    and :math:`z + N(0, \theta)` with :math:`\theta = 1` in the simulation and ``resolution`` in the
    data. ``with_resolution`` moves the simulation to another :math:`\theta`.

    Args:
        key: Random key.
        events: Number of simulated and of measured events.
        resolution: That of the second observable in the data.

    Example:
        >>> import jax
        >>> resolution_levels(key=jax.random.key(0), events=10).reco.shape
        (10, 2)

    References:
        arXiv:2409.10421, Gaussian example.
    """
    key_gen, key_reco, key_truth, key_data = jax.random.split(key, 4)
    gen = jax.random.normal(key_gen, (events,))
    truth = 0.8 + jax.random.normal(key_truth, (events,))
    reco = gen[:, None] + jax.random.normal(key_reco, (events, 2))
    widths = jnp.array([1.0, resolution])
    data = truth[:, None] + widths[None] * jax.random.normal(key_data, (events, 2))
    passed = jnp.ones(events, bool)
    return GaussianLevels(gen, reco, passed, passed, data, truth)


def with_resolution(
    gen: Float[Array, "events *one"],
    reco: Float[Array, "events 2"],
    resolution: Float[Array, ""] | float,
) -> Float[Array, "events 2"]:
    """Return the detector level of ``resolution_levels`` with another resolution.

    Differentiable in the resolution: each residual is scaled.

    Example:
        >>> import jax.numpy as jnp
        >>> with_resolution(jnp.zeros(1), jnp.ones((1, 2)), 1.5).tolist()
        [[1.0, 1.5]]
    """
    z = gen.reshape(-1)
    return jnp.stack([reco[:, 0], z + resolution * (reco[:, 1] - z)], axis=1)


def cloud_levels(
    *, key: PRNGKeyArray, events: int = 20_000, particles: int = 6, shift: float = 0.25
) -> GaussianLevels:
    r"""Return a toy of particle clouds of different size, with lost particles.

    Each event has 2 to ``particles`` particles of channels (eta, phi, log pt); eta and phi are
    N(0, 1), log pt is N(m, 0.5) with m = 0 in the simulation and ``shift`` in the data. The
    detector smears log pt by 0.2 and loses one particle in ten (never the first). Rows of padding
    are zeros.

    Args:
        key: Random key.
        events: Number of simulated and of measured events.
        particles: Largest number of particles.
        shift: Mean of log pt in the data.

    Example:
        >>> import jax
        >>> cloud_levels(key=jax.random.key(0), events=10).gen.shape
        (10, 6, 3)
    """

    def clouds(key: Array, mean: float) -> tuple[Array, Array]:
        keys = jax.random.split(key, 5)
        angles = jax.random.normal(keys[0], (events, particles, 2))
        log_pt = mean + 0.5 * jax.random.normal(keys[1], (events, particles, 1))
        number = jax.random.randint(keys[2], (events, 1), 2, particles + 1)
        real = jnp.arange(particles)[None] < number
        truth = jnp.concatenate([angles, log_pt], axis=2)
        kept = real & (jax.random.uniform(keys[3], real.shape) > 0.1).at[:, 0].set(True)
        smeared = truth.at[:, :, 2].add(0.2 * jax.random.normal(keys[4], real.shape))
        return jnp.where(real[..., None], truth, 0.0), jnp.where(kept[..., None], smeared, 0.0)

    key_sim, key_data = jax.random.split(key)
    gen, reco = clouds(key_sim, 0.0)
    truth, data = clouds(key_data, shift)
    passed = jnp.ones(events, bool)
    return GaussianLevels(gen, reco, passed, passed, data, truth)
