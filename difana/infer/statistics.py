"""Profile-likelihood test statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from difana._errors import ModelError
from difana._numerics import after
from difana._result import AbstractResult
from difana._status import Status
from difana.infer._checks import check_free_poi, check_tested
from difana.infer.fit import attached, attached_value, fit, profile
from difana.infer.fit_result import FitResult
from difana.infer.newton import Minimum
from difana.likelihood import Model


class StatisticResult(AbstractResult):
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


def fits_in_turn(
    model: Model,
    data: Float[Array, " data"],
    mus: Float[Array, " fits"],
    *,
    free: Sequence[bool],
    on_asimov: Sequence[bool],
    tilde: bool = True,
) -> list[Minimum]:
    """Return fits that share one compiled loop, each at a value of mu or with mu free.

    The first one makes the Asimov data for those that say so. A free mu is not negative (without
    ``tilde``: the lower bound of the model holds), nor bounded above: a best fit cut off would
    falsify q. Their values carry derivatives, their parameters do not.
    """
    index = model.poi_index
    held = jnp.stack([model.fixed] * len(free)).at[:, index].set(~np.array(free))
    start = jnp.where(np.array(free), model.init[index], mus)
    values = jnp.stack([model.init] * len(free)).at[:, index].set(start)
    frozen, seen, begin, hold = jax.lax.stop_gradient((model, data, values, held))
    lower = frozen.lower.at[index].set(0.0) if tilde else frozen.lower
    upper = frozen.upper.at[index].set(jnp.inf)

    def one(asimov: Array, given: tuple) -> tuple[Array, Minimum]:
        i, start, hold, there = given
        found = profile(
            frozen, jnp.where(there, asimov, seen), start, held=hold, lower=lower, upper=upper
        )
        return jnp.where(i == 0, frozen.expected(found.params), asimov), found

    steps = (jnp.arange(len(free)), begin, hold, jnp.array(on_asimov))
    _, fits = jax.lax.scan(one, jnp.zeros_like(seen), steps)
    fits = jax.lax.stop_gradient(fits)
    # the derivatives, outside the loop: inside, the rules of the second ones would be lost
    first = attached(model, data, values[0], held[0], jax.tree.map(lambda leaf: leaf[0], fits))
    there = jnp.where(np.array(on_asimov)[:, None], model.expected(first.params), data)
    value = jax.vmap(attached_value, (None, 0, 0, 0, 0))(model, there, values, held, fits)
    fits = fits._replace(value=value)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], fits) for i in range(len(free))]


def four_fits(
    model: Model, data: Float[Array, " data"], mu: Float[Array, ""], *, tilde: bool = True
) -> FourFits:
    """Return the fits of a test of one value; without ``tilde`` a free mu may be negative."""
    zero = jnp.zeros_like(mu)
    return FourFits(
        *fits_in_turn(
            model,
            data,
            jnp.stack([zero, zero, mu, mu]),
            free=(False, True, False, False),
            on_asimov=(False, False, False, True),
            tilde=tilde,
        )
    )


def excluded(
    value: Float[Array, ""], status: Int[Array, ""], other: Int[Array, ""] | int = 0
) -> Float[Array, ""]:
    """Return infinity where a hypothesis makes the data impossible and the other one does not."""
    only = (status & ~other & int(Status.IMPOSSIBLE)) != 0
    return jnp.where(only, jnp.inf, value)


def check_negative(model: Model, statistic: str = "q_mu", instead: str = "q-tilde") -> None:
    """Refuse a statistic without tilde where the bounds forbid a negative best fit.

    Raises:
        ModelError: Says what to do.
    """
    lower = model.lower[model.poi_index]
    if not isinstance(lower, Tracer) and float(lower) >= 0:
        raise ModelError(
            f"{statistic} needs a parameter of interest that may be negative: set its lower bound "
            f"below zero, or use {instead}"
        )


def q_from_fits(
    model: Model, free: Minimum, conditional: Minimum, mu: Float[Array, ""]
) -> Float[Array, ""]:
    """Return q_mu: zero where the best fit lies above ``mu``."""
    ratio = jnp.maximum(2 * (conditional.value - free.value), 0.0)
    ratio = excluded(ratio, conditional.status, free.status)
    return jnp.where(free.params[model.poi_index] <= mu, ratio, 0.0)


def profile_ratio(
    model: Model,
    data: Float[Array, " data"],
    mu: Float[Array, ""] | float,
    *,
    poi_lower: float | None,
    free: FitResult | None,
) -> StatisticResult:
    """Return twice the nll at ``mu`` above that of the best fit, whichever side this is on.

    The best fit is not below ``poi_lower`` (None: the lower bound of the model), nor bounded above.
    """
    check_tested(mu, least=-np.inf if poi_lower is None else poi_lower)
    check_free_poi(model)
    mu = jnp.asarray(mu, model.nominal.dtype)
    free = fit(model, data, poi_lower=poi_lower, poi_upper=np.inf) if free is None else free
    poi = model.parameters[model.poi_index]
    conditional = fit(model, after(data, free.status), fixed={poi: mu})
    value = jnp.maximum(2 * (conditional.half_deviance - free.half_deviance), 0.0)
    value = excluded(value, conditional.status, free.status)
    return StatisticResult(value, free, conditional, free.status | conditional.status)


def qmu(
    model: Model,
    data: Float[Array, " data"],
    *,
    mu: Float[Array, ""] | float,
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
        >>> round(float(qmu(model, model.data([50.0]), mu=1.0).value), 4)  # 20 - 100 ln 1.2
        1.7678
    """
    if not tilde:
        check_negative(model)
    found = profile_ratio(model, data, mu, poi_lower=0.0 if tilde else None, free=free)
    value = jnp.where(found.free.params[model.poi_index] <= mu, found.value, 0.0)
    return dataclasses.replace(found, value=value)


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
    return profile_ratio(model, data, 0.0, poi_lower=0.0, free=free)
