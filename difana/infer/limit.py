"""Upper limits: observed, and the five expected ones, with implicit gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from difana._errors import ModelError
from difana._numerics import safe_divide
from difana.infer.asimov import Asimov, asimov_data
from difana.infer.fit import solve
from difana.infer.hypotest import asimov_q, log_cls_observed, target_root
from difana.infer.statistics import three_fits
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
        inside = (newton > low) & (newton < limit)  # also false for NaN
        new = jnp.where(inside, newton, middle)
        done = (jnp.abs(new - mu) <= 64 * eps * jnp.abs(mu)) | (jnp.abs(value) <= 8 * eps)
        return jnp.where(done, mu, new), low, high, carry, steps + 1, done

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


def _expected_root(
    model: Model, asimov: Asimov, target: Float[Array, ""], width: Float[Array, ""]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Solve sqrt(q_A(mu)) = target; differentiable by the implicit function theorem."""
    frozen, still = jax.lax.stop_gradient((model, asimov))

    def value_and_slope(mu: Array, carry: tuple) -> tuple[Array, Array, tuple]:
        q, conditional = asimov_q(frozen, still, mu, carry[0])
        root = jnp.sqrt(jnp.maximum(q, jnp.finfo(q.dtype).tiny))
        slope = conditional.gradient[frozen.poi_index] / root
        return root - target, slope, (conditional.params, slope, conditional.status)

    carry = (frozen.init, jnp.zeros_like(width), jnp.zeros((), jnp.int32))
    mu, (params, slope, fit_status), status = _rising_root(value_and_slope, target * width, carry)
    mu, params, slope = jax.lax.stop_gradient((mu, params, slope))
    change = 2 * model.half_deviance(_at(model, params, mu), asimov.data)
    change = change - 2 * model.half_deviance(jax.lax.stop_gradient(asimov.params), asimov.data)
    return _implicit(mu, change, 2 * target * slope), status | fit_status


def _implicit(mu: Array, value: Array, slope: Array) -> Array:
    """Return ``mu`` with the gradient -d(value)/slope of a root of ``value``."""
    constant = jax.lax.stop_gradient(value)
    return mu - (value - constant) / jax.lax.stop_gradient(jnp.where(slope > 0, slope, jnp.inf))


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
    return _band(model, asimov_data(model, data=data), level, median_only=median_only)


def _band(model: Model, asimov: Asimov, level: float, *, median_only: bool = False) -> LimitResult:
    width = jax.lax.stop_gradient(_poi_width(model, asimov))
    targets = jnp.asarray(target_root(1 - level), model.nominal.dtype)
    if median_only:
        median, status = _expected_root(model, asimov, targets[_MEDIAN], width)
        return LimitResult(None, jnp.broadcast_to(median, (5,)), status | asimov.status, level)
    limits, status = jax.vmap(lambda t: _expected_root(model, asimov, t, width))(targets)
    return LimitResult(None, limits, jnp.bitwise_or.reduce(status) | asimov.status, level)


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
    mu_zero = jnp.zeros((), model.nominal.dtype)
    free, null, _ = three_fits(model, data, mu_zero)
    asimov = Asimov(model.expected(null.params), null.params, null.status)
    expected = _band(model, asimov, level)
    index = model.poi_index
    frozen, both = jax.lax.stop_gradient((model, jnp.stack([data, asimov.data])))
    floors = jnp.stack(
        [free.half_deviance, model.half_deviance(jax.lax.stop_gradient(asimov.params), asimov.data)]
    )

    def log_ratio(values: Array, floors: Array, mu: Array) -> Array:
        """Return ln(alpha / CLs) from the conditional likelihoods; it rises with mu."""
        q, q_asimov = jnp.maximum(2 * (values - floors), 0.0)
        q = jnp.where(jax.lax.stop_gradient(free.params[index]) <= mu, q, 0.0)
        log_clsb, log_clb = log_cls_observed(q, q_asimov)
        return jnp.log(1 - level) - (log_clsb - log_clb)

    low, high = frozen.lower, frozen.upper
    held = frozen.fixed.at[index].set(True)

    def value_and_slope(mu: Array, carry: tuple) -> tuple[Array, Array, tuple]:
        fits = jax.vmap(
            lambda d, start: solve(
                frozen, d, start.at[index].set(mu), held=held, lower=low, upper=high
            )
        )(both, carry[0])
        value, by_nll = jax.value_and_grad(log_ratio)(
            fits.half_deviance, jax.lax.stop_gradient(floors), mu
        )
        slope = by_nll @ fits.gradient[:, index]
        return value, slope, (fits.params, slope, fits.status)

    start = jnp.maximum(expected.median, 1.5 * free.params[index])
    carry = (
        jnp.stack([model.init] * 2),
        jnp.zeros_like(start),
        jnp.zeros(2, jnp.int32),
    )
    mu, (params, slope, fit_status), status = _rising_root(
        value_and_slope, *jax.lax.stop_gradient((start, carry))
    )
    mu, params, slope = jax.lax.stop_gradient((mu, params, slope))
    nlls = jnp.stack(
        [
            model.half_deviance(_at(model, p, mu), d)
            for p, d in zip(params, (data, asimov.data), strict=True)
        ]
    )
    observed = _implicit(mu, log_ratio(nlls, floors, mu), slope)
    status = status | fit_status[0] | fit_status[1] | free.status | expected.status
    return LimitResult(observed, expected.expected, status, level)
