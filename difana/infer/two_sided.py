"""Statistics for intervals: deviations on both sides count."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, Float

from difana._numerics import safe_sqrt
from difana.infer.fit_result import FitResult
from difana.infer.statistics import StatisticResult, check_negative, profile_ratio
from difana.likelihood import Model


def tmu(
    model: Model,
    data: Float[Array, " data"],
    *,
    mu: Float[Array, ""] | float,
    free: FitResult | None = None,
) -> StatisticResult:
    r"""Return :math:`t_\mu = -2\ln\lambda(\mu)`; the best fit may lie on either side.

    The lower bound of the model applies to the best fit, its upper bound does not. Differentiable
    as :func:`difana.infer.qmu`.

    Args:
        model: The model; its parameter of interest must be allowed to be negative.
        data: Data vector.
        mu: Tested value.
        free: The unconditional fit, if already at hand.

    Raises:
        ModelError: If the bounds forbid negative values.

    References:
        Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727, equation 8.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Parameter, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")], parameters=[
        ...     Parameter("mu", bounds=((-5.0, 10.0),))])
        >>> round(float(tmu(model, model.data([45.0]), mu=0.0).value), 4)  # 10 + 90 ln 0.9
        0.5176
    """
    check_negative(model, "t_mu", "tmu_tilde")
    return profile_ratio(model, data, mu, poi_lower=None, free=free)


def tmu_tilde(
    model: Model,
    data: Float[Array, " data"],
    *,
    mu: Float[Array, ""] | float,
    free: FitResult | None = None,
) -> StatisticResult:
    r"""Return :math:`\tilde t_\mu`: like :math:`t_\mu` with a best fit that is not negative.

    The statistic of Feldman and Cousins. Differentiable as
    :func:`difana.infer.qmu`.

    Args:
        model: The model.
        data: Data vector.
        mu: Tested value.
        free: The unconditional fit, if already at hand; it must not be negative.

    References:
        Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727, equation 11; Feldman, Cousins,
        arXiv:physics/9711021.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> round(float(tmu_tilde(model, model.data([70.0]), mu=1.0).value), 4)  # 140 ln 7/6 - 20
        1.5811
    """
    return profile_ratio(model, data, mu, poi_lower=0.0, free=free)


def tmu_p_value(value: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Return the asymptotic p-value of :math:`t_\mu`, :math:`2[1-\Phi(\sqrt{t_\mu})]`.

    References:
        arXiv:1007.1727, equations 35 and 36.

    Example:
        >>> round(float(tmu_p_value(jnp.asarray(1.0))), 4)
        0.3173
    """
    return 2.0 * jnp.exp(log_ndtr(-safe_sqrt(value)))


def tmu_tilde_p_value(
    value: Float[Array, "..."], q_asimov: Float[Array, "..."]
) -> Float[Array, "..."]:
    r"""Return the asymptotic p-value of :math:`\tilde t_\mu`.

    As :func:`tmu_p_value` up to :math:`\tilde t_\mu = \mu^2/\sigma^2`; beyond, the best fit is
    negative, and :math:`p = 2 - \Phi(\sqrt{\tilde t_\mu})
    - \Phi\big((\tilde t_\mu + \mu^2/\sigma^2) / (2\mu/\sigma)\big)`.

    Args:
        value: The statistic.
        q_asimov: :math:`\mu^2/\sigma^2`: the statistic of the tested value on background-only
            Asimov data, e.g. ``hypotest(...).q_asimov``.

    References:
        arXiv:1007.1727, equations 43 and 44.

    Example:
        >>> round(float(tmu_tilde_p_value(jnp.asarray(1.0), jnp.asarray(4.0))), 4)
        0.3173
    """
    root, distance = safe_sqrt(value), safe_sqrt(q_asimov)
    near = value <= q_asimov
    slope = jnp.where(near | (distance == 0), 1.0, 2.0 * distance)
    beyond = jnp.where(distance == 0, jnp.inf, (value + q_asimov) / slope)
    other = jnp.where(near, root, beyond)
    return ndtr(-root) + ndtr(-other)
