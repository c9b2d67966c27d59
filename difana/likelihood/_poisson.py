"""Poisson terms that stay finite and keep their digits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._numerics import one_program

TINY = 1e-10  # below this expected yield the logarithm goes on linearly


@one_program
def safe_log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return log(x), continued linearly below a tiny value, so that fits stay finite."""
    large = x > TINY
    tail = np.log(TINY) + (x - TINY) / TINY
    return jnp.where(large, jnp.log(jnp.where(large, x, 1.0)), tail)


@one_program
def poisson_deviance(counts: Float[Array, "..."], mean: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return half the deviance of counts, exact for huge ones.

    An uncertainty of 1e-6 stands for 1e12 auxiliary counts: there the textbook formula is the
    difference of terms of 1e13, and its rounding exceeds the likelihood ratios wanted.
    """
    some = counts > 0
    safe = jnp.where(some, counts, 1.0)
    excess = (mean - safe) / safe
    near = jnp.abs(excess) < 0.5
    log_ratio = jnp.where(near, jnp.log1p(jnp.where(near, excess, 0.0)), safe_log(mean / safe))
    return jnp.where(some, safe * (excess - log_ratio), mean)


@one_program
def poisson_peak(counts: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the logarithm of the density of counts at their own mean, by Stirling for many."""
    many = counts > 100.0
    few = jnp.where(many, 1.0, counts)
    some = few > 0
    exact = jnp.where(some, few * jnp.log(jnp.where(some, few, 1.0)) - few, 0.0)
    exact = exact - jax.lax.lgamma(few + 1.0)
    inverse = 1.0 / jnp.where(many, counts, 100.0)
    square = inverse * inverse
    series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1260.0))
    return jnp.where(many, 0.5 * jnp.log(inverse / (2.0 * np.pi)) - series, exact)
