"""Maximum-likelihood fits, bounded, inside jit, with implicit gradients."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from difana._numerics import safe_divide, traced
from difana._status import Status, flag
from difana.infer.fit_result import FitResult
from difana.infer.newton import MAX_STEPS, Minimum, masked_solve, minimise
from difana.likelihood import Model
from difana.likelihood.engine.curvature import hessian


def _check_precision(model: Model) -> None:
    if model.nominal.dtype != jnp.float64:
        warnings.warn(
            "fits in float32 are good to about three digits; call difana.enable_x64() first",
            stacklevel=2,  # always this place: Python then shows it once
        )


def fit(
    model: Model,
    data: Float[Array, " data"],
    *,
    init: Float[Array, " params"] | None = None,
    fixed: Mapping[str, ArrayLike] | None = None,
    poi_lower: float | None = None,
    poi_upper: float | None = None,
    max_steps: int = MAX_STEPS,
    eliminate: bool = True,
) -> FitResult:
    r"""Fit the model to data by maximum likelihood within the bounds.

    Differentiable (forward and reverse, any order) in the model, the data and the fixed values:
    ``params`` by the implicit function theorem,
    :math:`d\hat\theta = -H^{-1}\,\partial_\varphi\nabla_\theta L\,d\varphi`; ``nll`` by the
    envelope theorem; ``covariance``, the diagnostics and the bounds carry no gradient.

    Args:
        model: The model.
        data: Data vector: observed yields, then auxiliary data.
        init: Starting point; ``model.init`` by default.
        fixed: Parameters held at given values, by name; the values may be traced.
        poi_lower: Replaces the lower bound of the parameter of interest.
        poi_upper: Replaces its upper bound.
        max_steps: Steps at most. Fits stop when they have arrived or make no progress any more;
            a few steps do for most, a flat valley may take hundreds.
        eliminate: Set the factors that act in one bin only (staterror, shapesys) to their best
            values analytically at every step, the method of Barlow and Beeston with one factor a
            bin; otherwise they are fitted like the others. Both find the same minimum.

    Returns:
        The fit result. ``result.ok`` tells whether it can be trusted.

    Raises:
        ModelError: If a fixed parameter does not exist or the data have the wrong length.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = fit(model, model.data([51.0, 58.0]), fixed={"unc[0]": 1.0})
        >>> result.ok, round(float(result["mu"]), 4)
        (True, 0.2187)
    """
    _check_precision(model)
    model.check_data(data)
    start = model.init if init is None else init
    held = model.fixed
    values = jnp.where(held, model.init, start)
    for name, value in (fixed or {}).items():
        held = held.at[model.index(name)].set(True)
        values = values.at[model.index(name)].set(value)
    lower, upper = model.lower, model.upper
    if poi_lower is not None:
        lower = lower.at[model.poi_index].set(poi_lower)
    if poi_upper is not None:
        upper = upper.at[model.poi_index].set(poi_upper)
    return solve(
        model,
        data,
        values,
        held=held,
        lower=lower,
        upper=upper,
        max_steps=max_steps,
        eliminate=eliminate,
    )


@partial(jax.custom_jvp, nondiff_argnums=(6, 7))
def _argmin(
    model: Model,
    data: Array,
    values: Array,
    held: Array,
    lower: Array,
    upper: Array,
    max_steps: int,
    eliminate: bool,  # noqa: FBT001
) -> Minimum:
    return minimise(
        model,
        data,
        values,
        lower=lower,
        upper=upper,
        held=held,
        max_steps=max_steps,
        eliminate=eliminate,
    )


@_argmin.defjvp
def _argmin_jvp(
    max_steps: int,
    eliminate: bool,  # noqa: FBT001
    primals: tuple,
    tangents: tuple,
) -> tuple[Minimum, Minimum]:
    """Differentiate the minimum by the implicit function theorem; diagnostics stay constant."""
    minimum = _argmin(*primals, max_steps, eliminate)
    model, data, values, held, *_ = primals
    return minimum, _change(model, data, values, held, minimum, tangents)


@jax.custom_jvp
def attached(model: Model, data: Array, values: Array, held: Array, minimum: Minimum) -> Minimum:
    """Return a minimum that was found without gradients, with those of :func:`profile`."""
    return minimum


@attached.defjvp
def _attached_jvp(primals: tuple, tangents: tuple) -> tuple[Minimum, Minimum]:
    model, data, values, held, _ = primals
    minimum = attached(*primals)  # which moves, too, when this is differentiated again
    return minimum, _change(model, data, values, held, minimum, tangents)


@jax.custom_jvp
def attached_value(
    model: Model, data: Array, values: Array, held: Array, minimum: Minimum
) -> Float[Array, ""]:
    """Return the value of :func:`attached`: its gradient needs no Hessian."""
    return minimum.value


@attached_value.defjvp
def _attached_value_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    model, data, values, held, _ = primals
    there = attached(*primals).params

    def value(model: Model, data: Array, values: Array) -> Array:
        return model.half_deviance(jnp.where(held, values, there), data)

    return attached_value(*primals), jax.jvp(value, (model, data, values), tangents[:3])[1]


def _change(
    model: Model, data: Array, values: Array, held: Array, minimum: Minimum, tangents: tuple
) -> Minimum:
    """Return the tangent of a minimum by those of model, data and values."""
    anchor = jnp.where(held, values, minimum.params)
    moved = jnp.where(held, tangents[2], 0.0)
    _, (value_change, gradient_change) = jax.jvp(
        lambda m, d, theta: jax.value_and_grad(m.half_deviance)(theta, d),
        (model, data, anchor),
        (tangents[0], tangents[1], moved),
    )
    change = _implicit_solve(hessian(model, anchor, data), minimum.free, gradient_change)
    zeros = jax.tree.map(
        lambda x: (
            jnp.zeros_like(x)
            if jnp.issubdtype(x.dtype, jnp.inexact)
            else np.zeros(x.shape, jax.dtypes.float0)
        ),
        minimum,
    )
    return zeros._replace(params=moved - change, value=value_change)


def _implicit_solve(curvature: Array, free: Array, vector: Array) -> Array:
    """Solve among the free parameters; derivatives need no more than the same factor."""

    def product(x: Array) -> Array:
        return jnp.where(free, curvature @ jnp.where(free, x, 0.0), x)

    return jax.lax.custom_linear_solve(
        product,
        jnp.where(free, vector, 0.0),
        lambda _, right: masked_solve(curvature, free, right),
        symmetric=True,
    )


def profile(
    model: Model,
    data: Float[Array, " data"],
    values: Float[Array, " params"],
    *,
    held: Bool[Array, " params"],
    lower: Float[Array, " params"] | None = None,
    upper: Float[Array, " params"] | None = None,
    eliminate: bool = True,
) -> Minimum:
    """Fit from ``values``, holding some of them, without the covariance: what tests need.

    ``params`` and ``value`` (half the deviance) are differentiable as in :func:`fit`.
    """
    _check_precision(model)
    lower = model.lower if lower is None else lower
    upper = model.upper if upper is None else upper
    return _argmin(model, data, values, held, lower, upper, MAX_STEPS, eliminate)


def solve(
    model: Model,
    data: Float[Array, " data"],
    values: Float[Array, " params"],
    *,
    held: Bool[Array, " params"],
    lower: Float[Array, " params"],
    upper: Float[Array, " params"],
    max_steps: int = MAX_STEPS,
    eliminate: bool = True,
) -> FitResult:
    """Fit from ``values``, holding some of them; see :func:`fit` for the gradients."""
    minimum = _argmin(model, data, values, held, lower, upper, max_steps, eliminate)
    frozen, still, there = jax.lax.stop_gradient((model, data, minimum.params))
    around = _around if traced(frozen, still, there, held) else _around_compiled
    covariance, gradient, one_sided = around(frozen, still, there, minimum.free, ~held)
    return FitResult(
        params=minimum.params,
        nll=minimum.value - model.saturated(data),
        half_deviance=minimum.value,
        gradient=gradient,
        covariance=covariance,
        status=minimum.status | flag(~jnp.all(jnp.isfinite(covariance)), Status.INDEFINITE),
        steps=minimum.steps,
        distance=minimum.distance,
        names=model.parameters,
        one_sided=one_sided,
    )


def _around(
    model: Model,
    data: Float[Array, " data"],
    params: Float[Array, " params"],
    free: Bool[Array, " params"],
    moving: Bool[Array, " params"],
) -> tuple[Float[Array, "params params"], Float[Array, " params"], Float[Array, " params"]]:
    """Return covariance, gradient and one-sided widths at a minimum."""
    curvature = hessian(model, params, data)
    both = free[:, None] & free[None, :]
    covariance = jax.vmap(lambda column: masked_solve(curvature, free, column))(
        jnp.eye(params.size, dtype=params.dtype)
    )
    covariance = jnp.where(both, jax.lax.stop_gradient(covariance), 0.0)
    gradient = jax.grad(model.half_deviance)(params, data)
    return covariance, gradient, _one_sided(curvature, covariance, gradient, moving & ~free)


_around_compiled = eqx.filter_jit(_around)


def _one_sided(
    curvature: Float[Array, "params params"],
    covariance: Float[Array, "params params"],
    gradient: Float[Array, " params"],
    pressed: Bool[Array, " params"],
) -> Float[Array, " params"]:
    """Return where the nll rises by one half from a bound: |g| t + h t^2 / 2 = 1 / 2."""
    profiled = jnp.diagonal(curvature) - jnp.sum((curvature @ covariance) * curvature, axis=1)
    slope, bend = jnp.abs(gradient), jnp.maximum(profiled, 0.0)
    width = safe_divide(jnp.ones_like(slope), slope + jnp.sqrt(slope**2 + bend))
    return jax.lax.stop_gradient(jnp.where(pressed, width, 0.0))


def negative_yield(model: Model, params: Float[Array, " params"]) -> Int[Array, ""]:
    """Return the status flag of parameters at which a bin expects a negative yield."""
    negative, masked = model.expected_main(params) < 0, model.structure.masked
    negative = negative & ~masked if masked.size else negative
    return flag(jnp.any(negative), Status.NEGATIVE_YIELD)


def fisher_information(
    model: Model, params: Float[Array, " params"], data: Float[Array, " data"]
) -> Float[Array, "params params"]:
    """Return the Hessian of the nll at ``params`` (not its inverse); differentiable.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([4.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> fisher_information(model, model.init, model.expected(model.init)).tolist()
        [[4.0]]
    """
    return jax.hessian(lambda theta: model.half_deviance(theta, data))(params)
