"""Rotating Gaussians: the events, and what is known in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from difana.data import Events, Sample, Transformation

NOMINAL, PRIOR, SPREAD = np.pi / 4, 0.5, 0.7
SIGNAL, BACKGROUND = 500.0, 50_000.0
STEP = np.pi / 4 / PRIOR / 16  # of the nuisance, in standard deviations
VALUES = STEP * np.arange(-24, 25)
TRUTHS = {"0": -16, "pi/8": -8, "pi/4": 0, "3pi/8": 8, "pi/2": 16}  # z, and steps from nominal


def rotate(features: jax.Array, alpha: jax.Array) -> jax.Array:
    """Turn the plane by ``alpha`` standard deviations of the angle."""
    cosine, sine = jnp.cos(PRIOR * alpha), jnp.sin(PRIOR * alpha)
    x, y = features[:, 0], features[:, 1]
    return jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)


def gaussians(key: jax.Array, *, events: int) -> tuple[Sample, Sample]:
    """Return signal and background at the nominal angle, opposite to each other."""
    centre = jnp.asarray([np.cos(NOMINAL), np.sin(NOMINAL)])
    turn = (Transformation(function=rotate, name="z"),)
    found = []
    for name, sign, total, own in zip(
        ("signal", "background"), (1, -1), (SIGNAL, BACKGROUND), jax.random.split(key), strict=True
    ):
        features = sign * centre + SPREAD * jax.random.normal(own, (events, 2))
        drawn = Events(
            features.astype(jnp.float32),
            jnp.full(events, total / events, jnp.float32),
            columns=("x", "y"),
        )
        factors = ("mu",) if sign > 0 else ()
        found.append(Sample(drawn, turn, name=name, normfactors=factors))
    return tuple(found)


def known_angle() -> tuple[float, float]:
    """Return sigma(mu) without bins and with a known angle, for mu = 1; and the best AUC."""
    x = np.linspace(-6, 6, 20_001)
    s = SIGNAL * norm.pdf(x, 1.0, SPREAD)
    b = BACKGROUND * norm.pdf(x, -1.0, SPREAD)
    information = np.sum(s**2 / (s + b)) * (x[1] - x[0])
    return float(information**-0.5), float(norm.cdf(np.sqrt(2) / SPREAD))


def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return angles spread evenly over the tested range and a bit beyond."""
    return jax.random.uniform(key, shape, minval=VALUES[4], maxval=VALUES[-5])
