"""Six correlated jet observables at two levels: a proxy of the Z + jets sample of OmniFold."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

JET_NAMES = ("m", "w", "M", "ln_rho", "zg", "tau21")
"""Mass, width, multiplicity, groomed mass (logarithm), momentum sharing, N-subjettiness ratio."""

JET_UNITS = ("GeV", "", "", "", "", "")
"""Units of the observables."""

JET_BINS = (
    (0.0, 75.0, 50), (0.0, 0.6, 50), (0.0, 80.0, 80), (-14.0, -2.0, 50), (0.0, 0.5, 50),
    (0.0, 1.2, 50),
)  # fmt: skip
"""Range and number of bins of the published comparison, in the order of the names."""

JET_MOMENTS = {
    "gen": ((20.64, 10.47), (0.1228, 0.0949), (24.69, 10.00), (-7.33, 2.37), (0.2332, 0.1160),
            (0.7331, 0.2122)),
    "reco": ((17.30, 10.32), (0.1410, 0.0961), (17.58, 7.93), (-7.00, 2.48), (0.2405, 0.1202),
             (0.6729, 0.2031)),
}  # fmt: skip
"""Mean and standard deviation of the simulated observables at the two levels."""

_KINDS = ("log", "log", "log", "linear", "logit", "logit")
_LARGEST = (None, None, None, None, 0.5, 1.2)  # of the bounded observables
_CORRELATION = np.array([
    [1.00, 0.60, 0.60, 0.55, 0.10, -0.10],
    [0.60, 1.00, 0.50, 0.50, 0.10, -0.20],
    [0.60, 0.50, 1.00, 0.20, 0.00, 0.30],
    [0.55, 0.50, 0.20, 1.00, 0.20, -0.20],
    [0.10, 0.10, 0.00, 0.20, 1.00, -0.10],
    [-0.10, -0.20, 0.30, -0.20, -0.10, 1.00],
])  # fmt: skip
_SHIFT = np.array([-0.12, -0.30, -0.24, -0.276, 0.126, 0.288])  # of the data, in widths
_STRETCH = np.array([1.0, 0.97, 0.95, 1.0, 1.0, 0.97])  # of the data
_RESPONSE = np.diag([0.80, 0.85, 0.90, 0.90, 0.75, 0.75])
# the response of the mass depends on how many and how far spread its particles are
_RESPONSE[0, 1], _RESPONSE[0, 2] = 0.15, -0.45
_RESPONSE[5, 2] = -0.25


class JetLevels(eqx.Module):
    """Jets at both levels of the simulation, measured jets and their truth.

    Attributes:
        gen: Simulated truth, ``[events, 6]``.
        reco: Detector level of the same jets.
        data: The measurement, ``[data, 6]``.
        truth: Truth of the measured jets: what an unfolding should find.
    """

    gen: Float[Array, "events 6"]
    reco: Float[Array, "events 6"]
    data: Float[Array, "data 6"]
    truth: Float[Array, "data 6"]

    def inputs(self) -> dict[str, Any]:
        """Return the arguments of ``difana.unfold.unfolding_problem``."""
        levels = {name: getattr(self, name) for name in ("gen", "reco", "data")}
        return {**levels, "names": JET_NAMES, "units": JET_UNITS}


def jets(*, key: PRNGKeyArray, events: int = 100_000, measured: int | None = None) -> JetLevels:
    r"""Return a proxy of jets in Z + jets events, simulated and measured.

    Normal numbers :math:`z` with a fixed correlation become observables with the moments of the
    public sample: mass, width and multiplicity log-normal, :math:`\ln\rho` normal, :math:`z_g` and
    :math:`\tau_{21}` logit-normal. The detector is :math:`r = D z + noise`, of unit variance,
    turned into observables with the moments at detector level. The response of the mass depends on
    width and multiplicity, so that unfolding the mass alone is biased. In the data :math:`z` is
    shifted by up to 0.3 widths: as far as the two generators of the public sample differ.

    Args:
        key: Random key.
        events: Number of simulated jets.
        measured: Number of measured jets; None for as many.

    Returns:
        The jets, all of them reconstructed.

    Example:
        >>> import jax
        >>> found = jets(key=jax.random.key(0), events=100, measured=50)
        >>> found.gen.shape, found.data.shape
        ((100, 6), (50, 6))

    References:
        Sample: Zenodo 3548091, arXiv:1911.09107. Moments: SBUnfold, arXiv:2308.12351. It is a proxy
        with these means and widths, not the sample itself.
    """
    keys = jax.random.split(key, 2)
    measured = events if measured is None else measured
    gen, reco = _levels(keys[0], events, np.zeros(6), np.ones(6))
    truth, data = _levels(keys[1], measured, _SHIFT, _STRETCH)
    return JetLevels(gen, reco, data, truth)


def jet_recursion(iterations: int) -> list[tuple[np.ndarray, np.ndarray]]:
    r"""Return mean and covariance of the latent normal numbers after each ideal iteration.

    OmniFold with perfect classifiers and no end of events keeps them normal: with the detector
    :math:`D`, its noise :math:`N` and the truth :math:`(m_t, S_t)`,

    .. math::
        K = S D^T (D S D^T + N)^{-1}, \quad m' = m + K D (m_t - m), \quad
        S' = (1 - K D) S + K (D S_t D^T + N) K^T

    Args:
        iterations: Number of iterations.

    Returns:
        Mean ``[6]`` and covariance ``[6, 6]`` of the truth in the data, then those of the
        simulation before the first iteration, after it, and so on.

    Example:
        >>> truth, before, *after = jet_recursion(20)
        >>> [bool(abs(mean - truth[0]).max() < 1e-3) for mean, _ in (before, after[-1])]
        [False, True]
    """
    stretch = np.diag(_STRETCH)
    truth = _SHIFT, stretch @ _CORRELATION @ stretch
    noise = np.diag(_noise() ** 2)
    measured = _RESPONSE @ truth[1] @ _RESPONSE.T + noise
    found = [truth, (np.zeros(6), _CORRELATION)]
    for _ in range(iterations):
        mean, covariance = found[-1]
        seen = _RESPONSE @ covariance @ _RESPONSE.T + noise
        gain = np.linalg.solve(seen, _RESPONSE @ covariance).T
        found.append((
            mean + gain @ _RESPONSE @ (truth[0] - mean),
            covariance - gain @ _RESPONSE @ covariance + gain @ measured @ gain.T,
        ))  # fmt: skip
    return found


def _noise() -> np.ndarray:
    """Return the width of the detector's noise: every observable it sees has unit variance."""
    return np.sqrt(1 - np.einsum("ij,jk,ik->i", _RESPONSE, _CORRELATION, _RESPONSE))


def _levels(key: Array, events: int, shift: np.ndarray, stretch: np.ndarray) -> tuple[Array, Array]:
    keys = jax.random.split(key, 2)
    normal = jax.random.normal(keys[0], (events, 6))
    correlated = normal @ jnp.asarray(np.linalg.cholesky(_CORRELATION).T)
    z = jnp.asarray(shift)[None, :] + jnp.asarray(stretch)[None, :] * correlated
    noise = jnp.asarray(_noise())[None, :] * jax.random.normal(keys[1], (events, 6))
    r = z @ jnp.asarray(_RESPONSE.T) + noise
    return _observables(z, "gen"), _observables(r, "reco")


def _observables(z: Array, level: str) -> Array:
    columns = []
    for i, (mean, sd) in enumerate(JET_MOMENTS[level]):
        match _KINDS[i]:
            case "log":
                width = np.sqrt(np.log1p((sd / mean) ** 2))
                columns.append(jnp.exp(np.log(mean) - width**2 / 2 + width * z[:, i]))
            case "linear":
                columns.append(mean + sd * z[:, i])
            case _:
                largest = _LARGEST[i]
                assert largest is not None
                centre, width = _logit_normal(mean / largest, sd / largest)
                columns.append(largest * jax.nn.sigmoid(centre + width * z[:, i]))
    return jnp.stack(columns, axis=1)


def _logit_normal(mean: float, sd: float) -> tuple[float, float]:
    """Return centre and width of a logit-normal number with these moments (Newton)."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    def moments(centre: float, width: float) -> np.ndarray:
        values = 1 / (1 + np.exp(-(centre + width * points)))
        first = weights @ values
        return np.array([first, np.sqrt(weights @ (values - first) ** 2)])

    x = np.array([np.log(mean / (1 - mean)), sd / (mean * (1 - mean))])
    for _ in range(30):
        here, step = moments(*x), 1e-6
        slope = np.stack([(moments(*(x + step * e)) - here) / step for e in np.eye(2)], axis=1)
        x = x - np.linalg.solve(slope, here - [mean, sd])
    return float(x[0]), float(x[1])
