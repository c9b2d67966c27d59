"""Profile-likelihood test statistics."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from difana._errors import ModelError
from difana.infer.fit import FitResult, fit, profile
from difana.infer.newton import Minimum
from difana.likelihood import Model


class StatisticResult(eqx.Module):
    """A test statistic and the two fits behind it."""

    value: Float[Array, ""]
    free: FitResult
    conditional: FitResult
    status: Int[Array, ""]


class FourFits(NamedTuple):
    """What a test of one value needs, each with params and value (half the deviance)."""

    null: Minimum  # at 0
    free: Minimum  # not negative, nor bounded above
    tested: Minimum
    asimov: Minimum  # tested value, on the Asimov data of the first


def four_fits(
    model: Model, data: Float[Array, " data"], mu: Float[Array, ""], *, only: int = 4
) -> FourFits:
    """Return the (first) fits of a test, by one compiled loop; the others repeat the last."""
    index = model.poi_index
    fixed = model.fixed
    held = jnp.stack([fixed] * 4).at[:, index].set(jnp.array([True, False, True, True]))
    values = jnp.stack([model.init] * 4).at[:, index].set(
        jnp.stack([jnp.zeros_like(mu), model.init[index], mu, mu])
    )
    lower = model.lower.at[index].set(0.0)
    upper = model.upper.at[index].set(jnp.inf)  # a best fit cut off would falsify q

    def one(asimov: Array, given: tuple) -> tuple[Array, Minimum]:
        i, start, hold = given
        found = profile(
            model,
            jnp.where(i == 3, asimov, data),
            start,
            held=hold,
            lower=lower,
            upper=upper,
        )
        return jnp.where(i == 0, model.expected(found.params), asimov), found

    _, fits = jax.lax.scan(one, jnp.zeros_like(data), (jnp.arange(only), values[:only], held[:only]))
    return FourFits(*(jax.tree.map(lambda leaf, i=min(i, only - 1): leaf[i], fits) for i in range(4)))


def q_from_fits(
    model: Model, free: Minimum, conditional: Minimum, mu: Float[Array, ""]
) -> Float[Array, ""]:
    """Return q_mu: zero where the best fit lies above ``mu``."""
    ratio = jnp.maximum(2 * (conditional.value - free.value), 0.0)
    return jnp.where(free.params[model.poi_index] <= mu, ratio, 0.0)


def _profile_ratio(
    model: Model, data: Array, mu: Array, poi_lower: float | None, free: FitResult | None
) -> tuple[FitResult, FitResult]:
    free = fit(model, data, poi_lower=poi_lower, poi_upper=np.inf) if free is None else free
    poi = model.parameters[model.poi_index]
    return free, fit(model, data, fixed={poi: mu})


def qmu(
    model: Model,
    data: Float[Array, " data"],
    mu: Float[Array, ""] | float,
    *,
    tilde: bool = True,
    free: FitResult | None = None,
) -> StatisticResult:
    r"""Return the statistic for upper limits.

    :math:`q_\mu = -2\ln\lambda(\mu)` for :math:`\hat\mu \le \mu`, else 0; with ``tilde`` the
    best fit is restricted to :math:`\hat\mu \ge 0` (:math:`\tilde q_\mu`), otherwise only by the
    lower bound of the model, which must then allow negative values. Its upper bound never applies.

    Args:
        model: The model.
        data: Data vector.
        mu: Tested value.
        tilde: Restrict the best fit to non-negative values.
        free: The unconditional fit, if already at hand.

    Raises:
        ModelError: If ``tilde`` is False and the bounds forbid negative values.

    References:
        Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727, equations 14 and 16.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> round(float(qmu(model, model.data([50.0]), 1.0).value), 4)  # 20 - 100 ln 1.2
        1.7678
    """
    lower = model.lower[model.poi_index]
    if not tilde and not isinstance(lower, Tracer) and float(lower) >= 0:
        raise ModelError(
            "q_mu needs a parameter of interest that may be negative: set its lower bound below "
            "zero, or use tilde=True"
        )
    mu = jnp.asarray(mu, model.nominal.dtype)
    free, conditional = _profile_ratio(model, data, mu, 0.0 if tilde else None, free)
    ratio = jnp.maximum(2 * (conditional.half_deviance - free.half_deviance), 0.0)
    value = jnp.where(free.params[model.poi_index] <= mu, ratio, 0.0)
    return StatisticResult(value, free, conditional, free.status | conditional.status)


def q0(
    model: Model, data: Float[Array, " data"], *, free: FitResult | None = None
) -> StatisticResult:
    r"""Return the statistic for discovery, :math:`-2\ln\lambda(0)` with :math:`\hat\mu \ge 0`.

    References:
        Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727, equation 12.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> round(float(q0(model, model.data([60.0])).value), 4)
        1.8786
    """
    zero = jnp.zeros((), model.nominal.dtype)
    free, conditional = _profile_ratio(model, data, zero, 0.0, free)
    value = jnp.maximum(
        2 * (conditional.half_deviance - free.half_deviance), 0.0
    )  # the best fit is not negative
    return StatisticResult(value, free, conditional, free.status | conditional.status)
