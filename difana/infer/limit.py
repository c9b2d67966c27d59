"""Upper limits: observed, and the five expected ones, with implicit gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from difana._errors import ModelError
from difana._numerics import safe_divide
from difana.infer.asimov import Asimov, asimov_data
from difana.infer.fit import profile
from difana.infer.hypotest import log_cls_observed, target_root
from difana.infer.statistics import fits_in_turn
from difana.infer.status import Status, describe, flag, trustworthy
from difana.likelihood import Model

_MEDIAN = 2


class LimitResult(eqx.Module):
    """Upper limits on the parameter of interest.

    Attributes:
        observed: Observed limit; None without data.
        expected: Expected limits at -2, -1, 0, 1, 2 standard deviations, ``[5]``.
        status: Bit flags of all fits and root searches.
        level: Confidence level (static), e.g. 0.95.
    """

    observed: Float[Array, ""] | None
    expected: Float[Array, " band"]
    status: Int[Array, ""]
    level: float = eqx.field(static=True, default=0.95)

    @property
    def median(self) -> Float[Array, ""]:
        """The median expected limit."""
        return self.expected[_MEDIAN]

    @property
    def ok(self) -> bool:
        """True if the numbers can be trusted."""
        return bool(trustworthy(self.status))

    @property
    def message(self) -> str:
        """The status in words."""
        return describe(self.status)


def _rising_root(
    function: Callable[[Array, Any], tuple[Array, Array, Any]],
    start: Float[Array, ""],
    carry: Any,
    *,
    max_steps: int = 60,
) -> tuple[Float[Array, ""], Any, Int[Array, ""]]:
    """Find the root of a rising function of mu > 0 by Newton steps kept inside a bracket.

    ``function(mu, carry)`` returns the value, the slope and the next carry (warm starts).
    """
    eps = jnp.finfo(start.dtype).eps

    def body(state: tuple) -> tuple:
        mu, low, high, carry, steps, _ = state
        value, slope, carry = function(mu, carry)
        low = jnp.where(value < 0, mu, low)
        high = jnp.where(value >= 0, mu, high)
        newton = mu - value / jnp.where(slope > 0, slope, jnp.nan)
        middle = jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2 * mu)
        limit = jnp.where(jnp.isfinite(high), high, 10 * mu)
        inside = (newton >= low) & (newton <= limit)  # also false for NaN
        new = jnp.where(inside, newton, middle)
        # Newton doubles the digits: after a step of sqrt(eps) it has arrived
        arrived = inside & (jnp.abs(new - mu) <= 0.1 * jnp.sqrt(eps) * jnp.abs(mu))
        done = arrived | (jnp.abs(new - mu) <= 64 * eps * jnp.abs(mu)) | (jnp.abs(value) <= 8 * eps)
        return new, low, high, carry, steps + 1, done

    start = jnp.where(jnp.isfinite(start) & (start > 0), start, 1.0)
    state = (
        start,
        jnp.zeros_like(start),
        jnp.full_like(start, jnp.inf),
        carry,
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    state = jax.lax.while_loop(lambda s: ~s[5] & (s[4] < max_steps) & (s[0] < 1e12), body, state)
    return state[0], state[3], flag(~state[5], Status.NOT_BRACKETED)


def _poi_width(model: Model, asimov: Asimov) -> Float[Array, ""]:
    """Return the statistical width of the parameter of interest: where the search starts.

    Cheap on purpose: the Hessian would take longer to compile than the search takes steps.
    """
    unit = jnp.zeros_like(asimov.params).at[model.poi_index].set(1.0)
    yields, signal = jax.jvp(model.expected_main, (asimov.params,), (unit,))
    information = jnp.sum(safe_divide(signal**2, jnp.maximum(yields, jnp.abs(signal))))
    return jnp.where(information > 0, jax.lax.rsqrt(information), jnp.inf)


def _at(model: Model, params: Array, mu: Array) -> Array:
    """Return the fitted nuisances as constants (envelope theorem); mu and held ones are not."""
    params = jnp.where(model.fixed, model.init, jax.lax.stop_gradient(params))
    return params.at[model.poi_index].set(mu)


class _Lane(NamedTuple):
    """One limit to search: the target of sqrt(q_A), or the observed one."""

    target: Array
    observed: Array


class _Found(NamedTuple):
    mu: Array
    slope: Array
    params: Array  # of the conditional fits to Asimov and observed data, [2, params]
    status: Array


def _observed_height(
    values: Array, floor: Array, mu_hat: Array, mu: Array, alpha: float
) -> Float[Array, ""]:
    """Return ln(alpha / CLs), which rises with mu, from the fits to Asimov and observed data."""
    q_asimov, q = jnp.maximum(2 * (values - jnp.stack([jnp.zeros_like(floor), floor])), 0.0)
    q = jnp.where(mu_hat <= mu, q, 0.0)
    log_clsb, log_clb = log_cls_observed(q, q_asimov)
    return jnp.log(alpha) - (log_clsb - log_clb)


def _search(
    model: Model,
    both: Float[Array, "2 data"],
    lanes: _Lane,
    width: Float[Array, ""],
    *,
    floor: Float[Array, ""],
    mu_hat: Float[Array, ""],
    alpha: float,
) -> _Found:
    """Search all limits in turn by one compiled loop; each starts where the last one ended.

    ``both`` holds Asimov and observed data, ``floor`` half the deviance of the latter.
    """
    index, fixed = model.poi_index, model.fixed
    held = fixed.at[index].set(True)

    def one(carry: tuple, lane: _Lane) -> tuple[tuple, _Found]:
        last_mu, last_target, params = carry
        # expected limits do not need the observed data: all is held, no step is made
        holds = jnp.stack([held, held | ~lane.observed])

        def height(mu: Array, carry: tuple) -> tuple[Array, Array, tuple]:
            def fit_one(given: tuple) -> tuple:
                data, start, hold = given
                found = profile(model, data, start.at[index].set(mu), held=hold)
                status = jnp.where(hold.all(), 0, found.status)
                return found.value, found.gradient[index], found.params, status

            values, gradients, params, status = jax.lax.map(fit_one, (both, carry[0], holds))
            root = jnp.sqrt(jnp.maximum(2 * values[0], jnp.finfo(mu.dtype).tiny))
            seen, by_value = jax.value_and_grad(_observed_height)(values, floor, mu_hat, mu, alpha)
            value = jnp.where(lane.observed, seen, root - lane.target)
            slope = jnp.where(lane.observed, by_value @ gradients, gradients[0] / root)
            return value, slope, (params, slope, status)

        guess = jnp.where(lane.observed, jnp.maximum(last_mu, 1.5 * mu_hat), last_mu)
        guess = guess * jnp.where(lane.observed, 1.0, lane.target / last_target)
        start = (params, jnp.zeros_like(guess), jnp.zeros(2, jnp.int32))
        mu, (params, slope, status), searched = _rising_root(height, guess, start)
        status = status[0] | status[1] | searched
        kept = (mu, lane.target, params)
        return kept, _Found(mu, slope, params, status)

    start = (width, jnp.ones_like(width), jnp.stack([model.init] * 2))
    return jax.lax.scan(one, start, lanes)[1]


def _implicit(mu: Array, value: Array, slope: Array) -> Array:
    """Return ``mu`` with the gradient -d(value)/slope of a root of ``value``."""
    constant = jax.lax.stop_gradient(value)
    return mu - (value - constant) / jax.lax.stop_gradient(jnp.where(slope > 0, slope, jnp.inf))


def _limits(
    model: Model,
    asimov: Asimov,
    data: Float[Array, " data"],
    targets: Float[Array, " lanes"],
    *,
    alpha: float,
    floor: Float[Array, ""] | None = None,
    mu_hat: Float[Array, ""] | None = None,
) -> tuple[Float[Array, " lanes"], Int[Array, ""]]:
    """Return the expected limits of the targets, then the observed one if ``floor`` is given."""
    lanes = _Lane(targets, jnp.zeros(targets.size, bool))
    if floor is not None:
        lanes = _Lane(jnp.append(targets, 1.0), jnp.append(lanes.observed, True))
    zero = jnp.zeros((), targets.dtype)
    floor, mu_hat = (zero if x is None else x for x in (floor, mu_hat))
    both = jnp.stack([asimov.data, data])
    frozen = jax.lax.stop_gradient((model, both, floor, mu_hat))
    found = _search(
        frozen[0],
        frozen[1],
        lanes,
        jax.lax.stop_gradient(_poi_width(model, asimov)),
        floor=frozen[2],
        mu_hat=frozen[3],
        alpha=alpha,
    )
    found = jax.lax.stop_gradient(found)

    def differentiable(lane: _Lane, one: _Found) -> Array:
        values = jax.vmap(lambda params, d: model.half_deviance(_at(model, params, one.mu), d))(
            one.params, both
        )
        seen = _observed_height(values, floor, frozen[3], one.mu, alpha)
        expected = values[0] / jnp.where(lane.observed, 1.0, lane.target)  # of the square root
        return _implicit(one.mu, jnp.where(lane.observed, seen, expected), one.slope)

    status = jnp.bitwise_or.reduce(found.status) | asimov.status
    return jax.vmap(differentiable)(lanes, found), status


def expected_limits(
    model: Model,
    *,
    data: Float[Array, " data"] | None = None,
    level: float = 0.95,
    median_only: bool = False,
) -> LimitResult:
    r"""Return the expected upper limits on background-only Asimov data.

    The limit at N standard deviations solves
    :math:`\sqrt{q_A(\mu)} = N + \Phi^{-1}(1-\alpha\Phi(N))`, by Newton steps inside jit, one
    warm-started conditional fit each. Differentiable (first order) in the model by the implicit
    function theorem: :math:`d\mu = -(\partial_\varphi q_A / \partial_\mu q_A)\,d\varphi`.

    Args:
        model: The model.
        data: If given, nuisances of the Asimov data are fitted to them first.
        level: Confidence level.
        median_only: Compute the median only (``expected`` then holds it five times): what a loss
            needs.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> [f"{limit:.4f}" for limit in expected_limits(model).expected]
        ['0.7810', '1.0660', '1.5168', '2.1839', '3.0486']
    """
    targets = jnp.asarray(target_root(1 - level), model.nominal.dtype)
    targets = targets[_MEDIAN, None] if median_only else targets
    asimov = asimov_data(model, data=data)
    limits, status = _limits(model, asimov, asimov.data, targets, alpha=1 - level)
    return LimitResult(None, jnp.broadcast_to(limits, (5,)), status, level)


def upper_limit(
    model: Model, data: Float[Array, " data"] | None = None, *, level: float = 0.95
) -> LimitResult:
    r"""Return the observed and the five expected CLs upper limits (q-tilde, asymptotic).

    The observed limit solves :math:`\ln CL_s(\mu) = \ln\alpha` by Newton steps inside jit.
    Differentiable (first order) in the model and the data by the implicit function theorem.

    Args:
        model: The model.
        data: Data vector; without data only the expected limits are computed.
        level: Confidence level.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = upper_limit(model, model.data([51.0, 48.0]))
        >>> round(float(result.observed), 6), round(float(result.median), 6)
        (1.011572, 1.062355)
    """
    if not 0 < level < 1:
        raise ModelError(f"the confidence level must lie between 0 and 1, not {level}")
    if data is None:
        return expected_limits(model, level=level)
    model.check_data(data)
    null, free = fits_in_turn(
        model,
        data,
        jnp.zeros(2, model.nominal.dtype),
        free=(False, True),
        on_asimov=(False, False),
    )
    asimov = Asimov(model.expected(null.params), null.params, null.status)
    targets = jnp.asarray(target_root(1 - level), model.nominal.dtype)
    limits, status = _limits(
        model,
        asimov,
        data,
        targets,
        alpha=1 - level,
        floor=free.value,
        mu_hat=free.params[model.poi_index],
    )
    return LimitResult(limits[5], limits[:5], status | free.status, level)
