"""Gaussian toys of unfolding: truth, smeared detector level, data; with exact expectations."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from difana._errors import InputError

GAUSSIAN_TOYS: dict[str, dict[str, Any]] = {
    "minimal": {"simulated": (0.2, 0.8), "measured": (0.0, 1.0), "smear": 0.5},
    "full": {
        "simulated": (0.0, 1.0), "measured": (0.2, 0.8), "smear": 0.5,
        "missed": 0.1, "fakes": 0.1, "background": 0.1,
    },
    "shifted": {"simulated": (0.5, 0.9), "measured": (0.0, 1.0), "smear": 0.5},
    "blurred": {"simulated": (0.0, 1.0), "measured": (0.2, 0.9), "smear": 2.0},
}  # fmt: skip
"""Settings of ``gaussian_levels``: the toys of hep-lbdl/OmniFold (minimal, full), of deconvolve
(shifted) and of AUSSIE (blurred: the resolution is twice the width)."""

_BACKGROUND_WIDTH = 1.2


class GaussianLevels(eqx.Module):
    """A generated unfolding problem with its answer.

    Attributes:
        gen: Truth of the simulated events, ``[events]`` or ``[events, ...]``.
        reco: Their detector level.
        pass_gen: False for fakes.
        pass_reco: False for missed events.
        data: The measurement: signal, fakes and background.
        truth: Fiducial truth of all signal events behind the data, missed ones included.
        background: Simulated background, as many events as in the data are expected.
    """

    gen: Float[Array, "events *truth"]
    reco: Float[Array, "events *detector"]
    pass_gen: Bool[Array, " events"]
    pass_reco: Bool[Array, " events"]
    data: Float[Array, "data *detector"]
    truth: Float[Array, "signal *truth"]
    background: Float[Array, "background *detector"] | None = None

    def inputs(self) -> dict[str, Any]:
        """Return the arguments of ``difana.unfold.unfolding_problem``."""
        names = ("gen", "reco", "data", "pass_gen", "pass_reco", "background")
        return {name: getattr(self, name) for name in names}


def gaussian_levels(
    toy: str = "minimal", *, key: PRNGKeyArray, events: int = 100_000, **changes: Any
) -> GaussianLevels:
    r"""Return a Gaussian unfolding toy, :math:`x = z + N(0, e)` with :math:`z \sim N(m, s)`.

    Args:
        toy: Name in ``GAUSSIAN_TOYS``.
        key: Random key.
        events: Number of simulated and of measured events.
        **changes: Replace settings of the toy: ``simulated`` and ``measured`` (mean, standard
            deviation), ``smear``, and the fractions ``missed``, ``fakes``, ``background``.

    Returns:
        The toy. Fakes have the detector level of ordinary events and no truth; the background is
        N(0, 1.2) smeared, its yield ``background * events``.

    Raises:
        InputError: If the toy or a setting is unknown.

    Example:
        >>> import jax
        >>> toy = gaussian_levels("full", key=jax.random.key(0), events=1000)
        >>> toy.gen.shape, toy.background.shape
        ((1000,), (100,))

    References:
        Toys of github.com/hep-lbdl/OmniFold (GaussianExample), arXiv:2602.24282 (AUSSIE).
    """
    if toy not in GAUSSIAN_TOYS:
        raise InputError(f"no toy '{toy}'; choose among {list(GAUSSIAN_TOYS)}")
    settings = {"missed": 0.0, "fakes": 0.0, "background": 0.0, **GAUSSIAN_TOYS[toy]}
    if not set(changes) <= set(settings):
        raise InputError(f"settings {sorted(set(changes) - set(settings))}; know {list(settings)}")
    settings |= changes
    smear = settings["smear"]
    keys = jax.random.split(key, 4)

    def level(key: Array, mean: float, sd: float) -> tuple[Array, Array, Array, Array]:
        k = jax.random.split(key, 4)
        z = mean + sd * jax.random.normal(k[0], (events,))
        x = z + smear * jax.random.normal(k[1], (events,))
        fake = jax.random.uniform(k[2], (events,)) < settings["fakes"]
        missed = ~fake & (jax.random.uniform(k[3], (events,)) < settings["missed"])
        return z, x, fake, missed

    gen, reco, fake, missed = level(keys[0], *settings["simulated"])
    truth, measured, data_fake, data_missed = level(keys[1], *settings["measured"])
    data = np.asarray(measured)[~np.asarray(data_missed)]
    background, count = None, round(settings["background"] * events)
    if count:
        width = float(np.hypot(_BACKGROUND_WIDTH, smear))
        background = width * jax.random.normal(keys[2], (count,))
        data = np.concatenate([data, width * np.asarray(jax.random.normal(keys[3], (count,)))])
    return GaussianLevels(
        gen, reco, ~fake, ~missed, jnp.asarray(data), truth[~np.asarray(data_fake)], background
    )


def gaussian_recursion(
    toy: str = "minimal", *, iterations: int
) -> Float[np.ndarray, "iterations 2"]:
    r"""Return mean and standard deviation after each ideal OmniFold iteration, full acceptance.

    .. math::
        K = \frac{s^2}{s^2 + e^2}, \qquad m' = m + K (m_t - m), \qquad
        s'^2 = K^2 (s_t^2 + e^2) + (1 - K) s^2

    Args:
        toy: Name in ``GAUSSIAN_TOYS``.
        iterations: Number of iterations.

    Example:
        >>> gaussian_recursion("minimal", iterations=2).round(4).tolist()
        [[0.0562, 0.9089], [0.0131, 0.9636]]

    References:
        Product of the Gaussian likelihood and prior (arXiv:1911.09107, equation 9, in closed form).
    """
    settings = GAUSSIAN_TOYS[toy]
    (mean, sd), (target, width), smear = (settings[n] for n in ("simulated", "measured", "smear"))
    rows = []
    for _ in range(iterations):
        gain = sd**2 / (sd**2 + smear**2)
        variance = gain**2 * (width**2 + smear**2) + (1 - gain) * sd**2
        mean, sd = mean + gain * (target - mean), float(np.sqrt(variance))
        rows.append((mean, sd))
    return np.array(rows)
