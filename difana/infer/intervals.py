"""Profile-likelihood intervals of any parameter, as MINOS finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, Int

from difana._errors import ModelError
from difana._numerics import safe_divide, traced
from difana._result import AbstractResult
from difana._status import Status, flag
from difana.infer._checks import check_level
from difana.infer._implicit import roots
from difana.infer.fit import attached_value, solve
from difana.infer.fit_result import FitResult
from difana.infer.newton import Minimum
from difana.infer.parallel._many import Report, best_fit, in_chunks, minima
from difana.likelihood import Model

_MAX_STEPS = 40


class IntervalResult(AbstractResult):
    """Profile-likelihood intervals; arrays have one entry a parameter, or none for one name.

    Attributes:
        lower: Lower ends.
        upper: Upper ends.
        value: Best-fit values.
        lower_at_bound: True where the likelihood ratio is not reached before the lower bound,
            which then is the end of the interval.
        upper_at_bound: The same at the upper end.
        status: Bit flags; ``AT_BOUND`` where an end lies at a bound.
        names: Names of the parameters (static).
        level: Confidence level (static).
    """

    lower: Float[Array, "..."]
    upper: Float[Array, "..."]
    value: Float[Array, "..."]
    lower_at_bound: Bool[Array, "..."]
    upper_at_bound: Bool[Array, "..."]
    status: Int[Array, "..."]
    names: tuple[str, ...] = eqx.field(static=True)
    level: float = eqx.field(static=True)


def profile_interval(
    model: Model,
    data: Float[Array, " data"],
    parameter: str | Sequence[str],
    *,
    level: float = 0.6827,
    fit: FitResult | None = None,
    batch: int = 8,
    report: Report | None = None,
) -> IntervalResult:
    r"""Return where twice the profile log-likelihood rises by the quantile of its distribution.

    The ends solve :math:`2[L(\theta_j, \hat{\hat\theta}) - L(\hat\theta)] = q`, ``q`` the
    ``level`` quantile of a :math:`\chi^2_1`, by Newton steps on the square root (linear for a
    parabola) kept inside a bracket; one warm-started conditional fit each. All ends of all
    parameters are found by one compiled program. Bounds are respected.

    Differentiable in the model and the data: the root by the implicit function
    theorem, the likelihoods by the envelope theorem. An end at a bound has no gradient.

    Args:
        model: The model.
        data: Data vector.
        parameter: One name, or several.
        level: Confidence level; 0.6827 is one standard deviation.
        fit: The best fit, if already at hand.
        batch: Ends searched at the same time.
        report: Called with the number of ends found and of all ends.

    Returns:
        The intervals, scalars if ``parameter`` is one name.

    Raises:
        ModelError: If a parameter does not exist or is held, or the level makes no sense.

    References:
        F. James, M. Roos, Comput. Phys. Commun. 10 (1975) 343 (MINOS).

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = profile_interval(model, model.data([55.0, 60.0]), "mu")
        >>> round(float(result.lower), 4), round(float(result.upper), 4)
        (0.0, 1.0824)
    """
    check_level(level)
    names = (parameter,) if isinstance(parameter, str) else tuple(parameter)
    indices = np.array([model.index(name) for name in names], np.int32)
    for name, i in zip(names, indices, strict=True):
        if model.structure.fixed[i]:
            raise ModelError(f"parameter '{name}' is held in every fit and has no interval")
    frozen, still = jax.lax.stop_gradient((model, data))
    best = jax.lax.stop_gradient(best_fit(frozen, still) if fit is None else fit)
    target = jnp.asarray(norm.isf((1 - level) / 2), model.nominal.dtype)
    index = jnp.repeat(jnp.asarray(indices), 2)
    side = jnp.tile(jnp.array([-1.0, 1.0], model.nominal.dtype), len(names))
    shared = (frozen, still, best.params, best.half_deviance, best.covariance, target)
    found = in_chunks(search_end, shared, (index, side), batch=batch, report=report)
    ends = found.end
    if traced(model, data):
        ends = _with_gradient(model, data, best.params, index, found)
    low_high = ends.reshape(-1, 2)
    at_bound = found.at_bound.reshape(-1, 2)
    status = jnp.bitwise_or(*found.status.reshape(-1, 2).T)
    status = status | (best.status & ~int(Status.AT_BOUND))
    fields = (low_high[:, 0], low_high[:, 1], best.params[indices], *at_bound.T, status)
    if isinstance(parameter, str):
        fields = tuple(x[0] for x in fields)
    return IntervalResult(*fields, names=names, level=level)


class _End(NamedTuple):
    end: Array
    params: Array
    slope: Array  # of the nll in the parameter, signed
    at_bound: Array
    status: Array


class _State(NamedTuple):
    t: Array  # distance from the best fit, in units of the parameter
    low: Array
    high: Array
    params: Array
    slope: Array
    status: Array
    steps: Array
    done: Array
    at_bound: Array


def search_end(shared: tuple, item: tuple[Array, Array]) -> _End:
    """Walk from the best fit in one direction until the root of the ratio meets the target."""
    model, data, best, floor, covariance, target = shared
    index, side = item
    size, dtype = best.shape[0], best.dtype
    unit = jnp.arange(size) == index
    held = model.fixed | unit
    reach = jnp.where(side > 0, model.upper[index] - best[index], best[index] - model.lower[index])
    reach = jnp.maximum(reach, 0.0)
    variance = covariance[index, index]
    # a parameter pressed against its bound has no variance: its statistical width is a start
    yields, change = jax.jvp(model.expected_main, (best,), (unit.astype(dtype),))
    information = jnp.sum(safe_divide(change**2, jnp.maximum(yields, jnp.abs(change))))
    guess = jax.lax.rsqrt(jnp.where(information > 0, information, 1.0))
    width = jnp.where(variance > 0, jnp.sqrt(jnp.maximum(variance, 0.0)), guess)
    path = safe_divide(covariance[index], variance)
    tolerance = jnp.finfo(dtype).eps ** 0.7

    def body(state: _State) -> _State:
        t = state.t
        start = jnp.where(unit, best + side * t, state.params)
        found = solve(model, data, start, held=held, lower=model.lower, upper=model.upper)
        rise = 2 * (found.half_deviance - floor)
        root = jnp.sqrt(jnp.maximum(rise, jnp.finfo(dtype).tiny))
        value = root - target
        slope = side * found.gradient[index] * 2 / (2 * root)
        low = jnp.where(value < 0, t, state.low)
        high = jnp.where(value >= 0, t, state.high)
        bracketed = jnp.isfinite(high)
        newton = t - value / jnp.where(slope > 0, slope, jnp.nan)
        limit = jnp.where(bracketed, high, jnp.minimum(reach, 8 * t))
        middle = jnp.where(bracketed, 0.5 * (low + high), jnp.minimum(2 * t, reach))
        inside = (newton > low) & (newton < limit)
        new = jnp.where(inside, newton, middle)
        at_bound = (value < 0) & (t >= reach)
        close = (jnp.abs(new - t) <= tolerance * t) | (jnp.abs(value) <= tolerance)
        done = at_bound | close
        # below the best fit: that was not the global minimum
        lost = flag(rise < -1e-6 * (1 + jnp.abs(floor)), Status.NOT_CONVERGED)
        return _State(
            jnp.where(done, t, new),
            low,
            high,
            found.params,
            found.gradient[index],
            (found.status & ~int(Status.AT_BOUND)) | lost,
            state.steps + 1,
            done,
            at_bound,
        )

    first = jnp.minimum(width * target, reach)
    zero = jnp.zeros((), dtype)
    no = jnp.zeros((), bool)
    start = jnp.where(model.fixed, best, best + path * side * first)
    number = jnp.zeros((), jnp.int32)
    state = _State(first, zero, zero + jnp.inf, start, zero, number, number, no, no)
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < _MAX_STEPS), body, state)
    status = state.status | flag(~state.done, Status.NOT_BRACKETED)
    status = status | flag(state.at_bound, Status.AT_BOUND)
    end = best[index] + side * state.t
    bound = jnp.where(side > 0, model.upper[index], model.lower[index])
    end = jnp.where(state.at_bound, bound, end)
    return _End(end, state.params, state.slope, state.at_bound, status)


def _rises(
    end: Float[Array, " ends"], model: Model, data: Array, best: Minimum, index: Array, found: _End
) -> Float[Array, " ends"]:
    """Return what vanishes at each end, the fits being those that were found."""
    floor = attached_value(model, data, model.init, model.fixed, best)
    unit = jnp.arange(model.init.size) == index[:, None]
    values = jnp.where(unit, end[:, None], model.init)
    held = model.fixed | unit
    fits = minima(model, found.params, held)
    each = jax.vmap(attached_value, (None, None, 0, 0, 0))
    value = each(model, data, values, held, fits)
    return value - floor


def _with_gradient(
    model: Model, data: Array, best: Array, index: Array, found: _End
) -> Float[Array, " ends"]:
    """Return the ends with the derivatives of the roots of the rise."""
    found = jax.lax.stop_gradient(found)
    slopes = jnp.where(found.at_bound, jnp.inf, found.slope)
    constants = (minima(model, best, model.fixed), index, found)
    return roots(_rises, found.end, slopes, (model, data), constants)
