"""Losses of neural importance sampling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def stratified_variance(
    f: Float[Array, "channels points"],
    q: Float[Array, "channels points"],
    q_sample: Float[Array, "channels points"],
) -> Float[Array, ""]:
    r"""Return the variance of an integral whose points are shared out among channels at best.

    .. math::
        L = \Big( \frac{\sum_i \sqrt{V_i + \epsilon}}{\sum_i \langle |f| / q_s \rangle_i} \Big)^2,
        \qquad V_i = \Big\langle \frac{q}{q_s} \Big( \frac{f}{q} -
        \Big\langle \frac{f}{q_s} \Big\rangle \Big)^2 \Big\rangle_i

    Args:
        f: Integrand times channel weight, at points drawn from ``q_sample``.
        q: Density of the flows.
        q_sample: Density of which the points were drawn.

    Example:
        >>> one = jnp.ones((1, 4))
        >>> float(stratified_variance(2 * one, one, one)) < 1e-5
        True

    References:
        arXiv:2311.01548, equation (14); the values are those of PyPI ``madnis``.
    """
    total = jnp.sum(jnp.mean(jnp.abs(jax.lax.stop_gradient(f)) / q_sample, axis=1))
    deviations = jnp.sqrt(_variances(f, q, q_sample) + jnp.finfo(f.dtype).eps)
    return (jnp.sum(deviations) / total) ** 2


def variance(
    f: Float[Array, "channels points"],
    q: Float[Array, "channels points"],
    q_sample: Float[Array, "channels points"],
) -> Float[Array, ""]:
    r"""Return the sum of the relative variances of the channels."""
    totals = jnp.mean(jnp.abs(jax.lax.stop_gradient(f)) / q_sample, axis=1)
    return jnp.sum(_variances(f, q, q_sample) / (totals + jnp.finfo(f.dtype).eps) ** 2)


def kl_divergence(
    f: Float[Array, "channels points"],
    q: Float[Array, "channels points"],
    q_sample: Float[Array, "channels points"],
) -> Float[Array, ""]:
    r"""Return the sum of the Kullback-Leibler divergences from ``|f|`` to the channels.

    .. math:: L = \sum_i \Big\langle \frac{\hat f}{q_s} (\ln \hat f - \ln q) \Big\rangle_i
    """
    size = jnp.abs(jax.lax.stop_gradient(f))
    size = size / jnp.mean(size / q_sample, axis=1, keepdims=True)
    logs = jnp.log(size + jnp.finfo(f.dtype).eps) - jnp.log(q)
    return jnp.sum(jnp.mean(size / q_sample * logs, axis=1))


LOSSES = {
    "stratified_variance": stratified_variance,
    "variance": variance,
    "kl_divergence": kl_divergence,
}


def _variances(f: Array, q: Array, q_sample: Array) -> Array:
    mean = jnp.mean(f / q_sample, axis=1, keepdims=True)
    return jnp.mean((f / q - mean) ** 2 * (q / q_sample), axis=1)
