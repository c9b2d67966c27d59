"""Upper limits: observed, and the five expected ones, with implicit gradients."""

from __future__ import annotations

import enum
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from difana._numerics import safe_divide, safe_sqrt
from difana._result import AbstractResult
from difana._status import Status
from difana.infer._checks import check_free_poi, check_level
from difana.infer._implicit import rising_root, roots
from difana.infer.asimov import asimov_data
from difana.infer.fit import attached, attached_value, profile
from difana.infer.hypotest import log_cls_observed, target_root
from difana.infer.newton import Minimum
from difana.likelihood import Model

_MEDIAN = 2


class LimitResult(AbstractResult):
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


def _expected_and_width(model: Model, params: Array) -> tuple[Array, Float[Array, ""]]:
    """Return the expected data, and the statistical width of mu on them: where a search starts.

    Cheap on purpose: the Hessian would take longer to compile than the search takes steps.
    """
    unit = jnp.zeros_like(params).at[model.poi_index].set(1.0)
    data, change = jax.jvp(model.expected, (params,), (unit,))
    yields, signal = data[: model.bins], change[: model.bins]
    information = jnp.sum(safe_divide(signal**2, jnp.maximum(yields, jnp.abs(signal))))
    return data, jnp.where(information > 0, jax.lax.rsqrt(information), jnp.inf)


class _Kind(enum.IntEnum):
    """What a lane of the search is for."""

    NULL = 0  # the fit without signal, which makes the Asimov data
    FREE = 1  # the best fit
    EXPECTED = 2
    OBSERVED = 3


class _Lane(NamedTuple):
    """One thing to find: a fit, a limit with a target of sqrt(q_A), or the observed one."""

    kind: Array
    target: Array


class _Known(NamedTuple):
    """What the lanes before have found."""

    mu: Array  # the last limit and its target: where the next search starts
    target: Array
    params: Array  # of the last fits to Asimov and observed data, [2, params]
    asimov: Array
    floor: Array  # half the deviance of the best fit
    mu_hat: Array


class _Found(NamedTuple):
    mu: Array
    slope: Array
    fits: Minimum  # to Asimov and observed data
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
    model: Model, data: Float[Array, " data"], lanes: _Lane, known: _Known, *, alpha: float
) -> _Found:
    """Go through the lanes by one compiled loop; each starts where the last one ended."""
    index = model.poi_index
    held = model.fixed.at[index].set(True)
    lower, upper = model.lower.at[index].set(0.0), model.upper.at[index].set(jnp.inf)

    def one(known: _Known, lane: _Lane) -> tuple[_Known, _Found]:
        null, free = lane.kind == _Kind.NULL, lane.kind == _Kind.FREE
        observed = lane.kind == _Kind.OBSERVED
        both = jnp.stack([known.asimov, data])
        # a fit that the lane does not need has all held: no step is made
        needed = jnp.stack([observed | (lane.kind == _Kind.EXPECTED), lane.kind != _Kind.EXPECTED])
        always = held & ~(free & (jnp.arange(held.size) == index))
        holds = always[None, :] | ~needed[:, None]

        def height(mu: Array, carry: tuple) -> tuple[Array, Array, tuple]:
            mu = jnp.where(null, 0.0, mu)

            def fit_one(given: tuple) -> Minimum:
                data, start, hold, wanted = given
                start = start.at[index].set(mu)
                found = profile(model, data, start, held=hold, lower=lower, upper=upper)
                return found._replace(status=jnp.where(wanted, found.status, 0))

            fits = jax.lax.map(fit_one, (both, carry[0].params, holds, needed))
            values, gradients = fits.value, fits.gradient[:, index]
            root = jnp.sqrt(jnp.maximum(2 * values[0], jnp.finfo(mu.dtype).tiny))
            seen, by_value = jax.value_and_grad(_observed_height)(
                values, known.floor, known.mu_hat, mu, alpha
            )
            value = jnp.where(observed, seen, root - lane.target)
            slope = jnp.where(observed, by_value @ gradients, gradients[0] / root)
            once = null | free  # a root at once: no search
            return jnp.where(once, 0.0, value), jnp.where(once, 1.0, slope), (fits, slope)

        guess = known.mu * lane.target / known.target
        guess = jnp.where(observed, jnp.maximum(known.mu, 1.5 * known.mu_hat), guess)
        guess = jnp.where(null | free, model.init[index], guess)
        # of two minima the best fit is the one next to the starting values
        first = _not_fitted(jnp.where(free, model.init, known.params))
        mu, (fits, slope), searched = rising_root(height, guess, (first, jnp.zeros_like(guess)))
        # without signal the data may be impossible: that fit only makes the Asimov data
        seen = jnp.where(null, fits.status[1] & ~int(Status.IMPOSSIBLE), fits.status[1])
        found = _Found(mu, slope, fits, fits.status[0] | seen | searched)
        return _learnt(model, known, lane, found), found

    return jax.lax.scan(one, known, lanes)[1]


def _not_fitted(params: Float[Array, "fits params"]) -> Minimum:
    """Return starting values in the form of fits."""
    zero, whole = jnp.zeros_like(params[:, 0]), jnp.zeros(len(params), jnp.int32)
    nothing = jnp.zeros_like(params)
    return Minimum(params, zero, nothing, nothing.astype(bool), zero, whole, whole)


def _learnt(model: Model, known: _Known, lane: _Lane, found: _Found) -> _Known:
    """Return what is known after a lane."""
    null, free = lane.kind == _Kind.NULL, lane.kind == _Kind.FREE
    params, index = found.fits.params, model.poi_index
    without = params[1]
    expected, width = _expected_and_width(model, without)
    asimov = jnp.where(null, expected, known.asimov)
    return _Known(
        mu=jnp.where(null, width, jnp.where(free, known.mu, found.mu)),
        target=jnp.where(null | free, known.target, lane.target),
        params=jnp.where(null, jnp.stack([without] * 2), params),
        asimov=asimov,
        floor=jnp.where(free, found.fits.value[1], known.floor),
        mu_hat=jnp.where(free, params[1, index], known.mu_hat),
    )


def _observed_heights(
    mu: Float[Array, " lanes"],
    model: Model,
    data: Float[Array, " data"],
    lanes: _Lane,
    found: _Found,
    *,
    alpha: float,
) -> Float[Array, " lanes"]:
    """Return what vanishes at the limits of :func:`upper_limit`, from all that was found."""
    null, free = (jax.tree.map(lambda leaf, i=i: leaf[i, 1], found.fits) for i in (0, 1))
    index = model.poi_index
    held = model.fixed.at[index].set(True)
    null = attached(model, data, model.init.at[index].set(0.0), held, null)
    floor = attached_value(model, data, model.init, model.fixed.at[index].set(False), free)
    rest = jax.tree.map(lambda leaf: leaf[2:], (lanes, found))
    asimov = model.expected(null.params)
    return _heights(mu, model, asimov, data, floor, free.params[index], *rest, alpha=alpha)


def _asimov_heights(
    mu: Float[Array, " lanes"],
    model: Model,
    asimov: Float[Array, " data"],
    lanes: _Lane,
    found: _Found,
) -> Float[Array, " lanes"]:
    """Return what vanishes at the limits of :func:`expected_limits`."""
    zero = jnp.zeros((), asimov.dtype)
    return _heights(mu, model, asimov, asimov, zero, zero, lanes, found, alpha=1.0)


def _heights(
    mu: Float[Array, " lanes"],
    model: Model,
    asimov: Float[Array, " data"],
    data: Float[Array, " data"],
    floor: Float[Array, ""],
    mu_hat: Float[Array, ""],
    lanes: _Lane,
    found: _Found,
    *,
    alpha: float,
) -> Float[Array, " lanes"]:
    """Return what vanishes at each limit, the fits being those that were found."""
    both = jnp.stack([asimov, data])
    held = model.fixed.at[model.poi_index].set(True)

    def one(mu: Array, lane: _Lane, found: _Found) -> Array:
        start = model.init.at[model.poi_index].set(mu)
        values = jax.vmap(lambda d, fit: attached_value(model, d, start, held, fit))(
            both, found.fits
        )
        seen = _observed_height(values, floor, mu_hat, mu, alpha)
        expected = safe_sqrt(2 * values[0]) - lane.target
        return jnp.where(lane.kind == _Kind.OBSERVED, seen, expected)

    return jax.vmap(one)(mu, lanes, found)


def usable(slope: Float[Array, " *lanes"]) -> Float[Array, " *lanes"]:
    """Return the slopes at limits; infinite where there is none."""
    return jnp.where(slope > 0, slope, jnp.inf)  # no limit, no gradient


def expected_limits(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    level: float = 0.95,
    median_only: bool = False,
) -> LimitResult:
    r"""Return the expected upper limits on background-only Asimov data.

    The limit at N standard deviations solves
    :math:`\sqrt{q_A(\mu)} = N + \Phi^{-1}(1-\alpha\Phi(N))`, by Newton steps inside jit, one
    warm-started conditional fit each. Differentiable in the model by the implicit
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
    check_level(level)
    check_free_poi(model)
    targets = jnp.asarray(target_root(1 - level), model.nominal.dtype)
    targets = targets[_MEDIAN, None] if median_only else targets
    asimov = asimov_data(model, data)
    lanes = _Lane(jnp.full(targets.size, int(_Kind.EXPECTED)), targets)
    frozen, there = jax.lax.stop_gradient((model, asimov))
    zero = jnp.zeros((), targets.dtype)
    _, width = _expected_and_width(frozen, there.params)
    params = jnp.stack([there.params] * 2)
    known = _Known(width, jnp.ones_like(width), params, there.data, zero, zero)
    found = _search(frozen, there.data, lanes, known, alpha=1 - level)
    found = jax.lax.stop_gradient(found)
    slopes = usable(found.slope)
    limits = roots(_asimov_heights, found.mu, slopes, (model, asimov.data), (lanes, found))
    status = jnp.bitwise_or.reduce(found.status) | asimov.status
    return LimitResult(None, jnp.broadcast_to(limits, (5,)), status, level)


def upper_limit(
    model: Model, data: Float[Array, " data"] | None = None, *, level: float = 0.95
) -> LimitResult:
    r"""Return the observed and the five expected CLs upper limits (q-tilde, asymptotic).

    The observed limit solves :math:`\ln CL_s(\mu) = \ln\alpha` by Newton steps inside jit.
    Differentiable (any order) in the model and the data by the implicit function theorem.

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
    check_level(level)
    check_free_poi(model)
    if data is None:
        return expected_limits(model, level=level)
    model.check_data(data)
    one = jnp.ones((), model.nominal.dtype)
    targets = jnp.pad(target_root(1 - level), (2, 1), constant_values=1.0).astype(one.dtype)
    kinds = [_Kind.NULL, _Kind.FREE, *[_Kind.EXPECTED] * 5, _Kind.OBSERVED]
    lanes = _Lane(jnp.asarray([int(kind) for kind in kinds]), targets)
    frozen, seen = jax.lax.stop_gradient((model, data))
    known = _Known(one, one, jnp.stack([frozen.init] * 2), seen, 0 * one, 0 * one)
    found = jax.lax.stop_gradient(_search(frozen, seen, lanes, known, alpha=1 - level))
    heights = partial(_observed_heights, alpha=1 - level)
    slopes = usable(found.slope[2:])
    limits = roots(heights, found.mu[2:], slopes, (model, data), (lanes, found))
    status = jnp.bitwise_or.reduce(found.status)
    return LimitResult(limits[5], limits[:5], status, level)
