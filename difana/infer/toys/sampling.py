"""Pseudo-experiments: main and auxiliary data drawn from a model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._options import whole_number
from difana.likelihood import Model

_FEW = 10.0  # below, inversion; above, rejection
_SERIES = 30.0  # from here on Stirling's series holds to the last digit but two


def poisson(key: PRNGKeyArray, mean: Float[Array, "..."]) -> Float[Array, "..."]:
    """Draw Poisson counts at the precision of ``mean``, as floating-point numbers.

    ``jax.random.poisson`` computes in single precision, whose rounding shows above means of some
    thousands, and auxiliary counts of small uncertainties are far larger. Means that are zero or
    negative give 0.

    Args:
        key: Random key.
        mean: Expected counts.

    References:
        W. Hoermann, Insurance: Mathematics and Economics 12 (1993) 39, algorithm PTRS.

    Example:
        >>> import jax
        >>> draws = poisson(jax.random.key(0), jnp.full(1000, 400.0))
        >>> bool(abs(draws.mean() - 400) < 3), bool(abs(draws.std() - 20) < 2)
        (True, True)
    """
    # few draws of random bits: they cost more to compile than all the rest
    return _poisson(key, jax.random.uniform(key, mean.shape, mean.dtype), mean)


def _poisson(key: PRNGKeyArray, uniform: Array, mean: Array) -> Array:
    few = mean < _FEW
    counts = _by_inversion(uniform, jnp.where(few, jnp.maximum(mean, 0.0), 0.0))
    return jnp.where(
        few, counts, _by_rejection(key, jnp.where(few, 1e3, mean), few | jnp.isnan(mean))
    )


def _by_inversion(uniform: Array, mean: Array) -> Array:
    """Climb the distribution function until it exceeds a uniform number."""

    def climb(state: tuple) -> tuple:
        count, term, total = state
        low = uniform > total
        count = count + low.astype(count.dtype)
        term = jnp.where(low, term * mean / jnp.maximum(count, 1.0), term)
        return count, term, jnp.where(low, total + term, total)

    start = jnp.exp(-mean)
    state = (jnp.zeros_like(mean), start, start)
    # where rounding keeps the sum below 1 the terms have long vanished
    alive = lambda state: jnp.any((uniform > state[2]) & (state[0] < 100.0))  # noqa: E731
    return jax.lax.while_loop(alive, climb, state)[0]


def _log_ratio(count: Array, mean: Array) -> Array:
    """Return the logarithm of the Poisson probability of a count, exact for huge ones."""
    many = count >= _SERIES
    big = jnp.where(many, count, _SERIES)
    change = (mean - big) / big
    near = jnp.abs(change) < 0.5
    log = jnp.where(near, jnp.log1p(jnp.where(near, change, 0.0)), jnp.log(mean / big))
    inverse = 1.0 / big
    tail = inverse * (1.0 / 12.0 - inverse**2 * (1.0 / 360.0 - inverse**2 / 1260.0))
    series = big * (log - change) - 0.5 * jnp.log(2.0 * np.pi * big) - tail
    small = jnp.where(many, 1.0, jnp.maximum(count, 0.0))
    exact = small * jnp.log(mean) - mean - jax.lax.lgamma(small + 1.0)
    return jnp.where(many, series, exact)


def _by_rejection(key: PRNGKeyArray, mean: Array, done: Array) -> Array:
    """Draw from a hat whose ratio to the distribution hardly varies; accept nine in ten."""
    width = 0.931 + 2.53 * jnp.sqrt(mean)
    slope = -0.059 + 0.02483 * width
    height = 1.1239 + 1.1328 / (width - 3.4)
    squeeze = 0.9277 - 3.6224 / (width - 2.0)

    def draw(state: tuple) -> tuple:
        count, done, step = state
        pair = jax.random.uniform(jax.random.fold_in(key, step), (2, *mean.shape), mean.dtype)
        u, v = pair[0] - 0.5, pair[1]
        edge = jnp.maximum(0.5 - jnp.abs(u), jnp.finfo(mean.dtype).tiny)
        trial = jnp.floor((2.0 * slope / edge + width) * u + mean + 0.43)
        quick = (edge >= 0.07) & (v <= squeeze)
        outside = (trial < 0) | ((edge < 0.013) & (v > edge))
        bound = jnp.log(v * height / (slope / edge**2 + width))
        accept = quick | (~outside & (bound <= _log_ratio(trial, mean)))
        return jnp.where(done | ~accept, count, trial), done | accept, step + 1

    # the bound on the steps is never met, but a loop must end
    state = (jnp.full_like(mean, jnp.nan), done, jnp.zeros((), jnp.int32))
    alive = lambda state: jnp.any(~state[1]) & (state[2] < 1000)  # noqa: E731
    return jax.lax.while_loop(alive, draw, state)[0]


def sample_one(
    model: Model, params: Float[Array, " params"], *, key: PRNGKeyArray
) -> Float[Array, " data"]:
    """Draw one set of main and auxiliary data; see :func:`sample_data`."""
    s = model.structure
    theta = params[s.constrained]
    widths, tau = model.constraint_scales() if theta.size else (theta, theta)
    # one call for all: counts of the bins, and auxiliary counts
    counting = jnp.where(s.poisson, theta * tau, 0.0)
    means = jnp.concatenate([model.expected_main(params), counting])
    uniform = jax.random.uniform(key, means.shape, means.dtype)
    counts = _poisson(key, uniform, means)
    if not theta.size or s.poisson.all():
        return counts
    # a Gaussian constraint has no counts: its uniform number is still unused
    tiny = jnp.finfo(uniform.dtype).tiny
    pulls = jax.scipy.special.ndtri(jnp.maximum(uniform[model.bins :], tiny))
    if s.correlated.size:
        # the inverse of the correlation matrix is L L^T: L^-T z has that correlation
        root = jnp.linalg.cholesky(model.precision)
        joint = jax.scipy.linalg.solve_triangular(root.T, pulls[s.correlated], lower=False)
        pulls = pulls.at[s.correlated].set(joint)
    auxiliary = theta + widths * pulls
    if s.lognormal.any():
        auxiliary = jnp.where(s.lognormal, theta * jnp.exp(widths * pulls), auxiliary)
    auxiliary = jnp.where(s.poisson, counts[model.bins :], auxiliary)
    return jnp.concatenate([counts[: model.bins], auxiliary])


def sample_data(
    model: Model, params: Float[Array, " params"], *, key: PRNGKeyArray, number: int
) -> Float[Array, "number data"]:
    r"""Draw pseudo-data: counts of every bin, and auxiliary data from the constraints.

    .. math:: n_b \sim \mathrm{Pois}(\lambda_b(\theta)), \qquad
              a_c \sim \mathcal{N}(\theta_c, \sigma_c) \ \text{or}\ \mathrm{Pois}(\theta_c\tau_c)
              \ \text{or}\ \theta_c\,e^{\sigma_c \mathcal{N}(0, 1)}

    Correlated constraints are drawn together. Draw ``i`` depends on ``key`` and ``i`` alone, so
    that the first draws stay the same when more are asked for. Not differentiable.

    Args:
        model: The model.
        params: Parameters at which the data are drawn.
        key: Random key.
        number: Number of data vectors.

    Raises:
        ConfigError: If the number is not positive.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> sample_data(model, model.init, key=jax.random.key(0), number=3).shape
        (3, 4)
    """
    number = whole_number("number", number)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))
    return jax.vmap(lambda k: sample_one(model, params, key=k))(keys)
