"""The same fit by iminuit: an independent minimiser to check against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._status import Status, flag
from difana.infer.fit import negative_yield
from difana.infer.fit_result import FitResult
from difana.likelihood import Model


@eqx.filter_jit
def _value_and_gradient(model: Model, params: Array, data: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(model.half_deviance)(params, data)


def minuit_fit(
    model: Model,
    data: Float[Array, " data"],
    *,
    init: Float[Array, " params"] | None = None,
    fixed: Mapping[str, float] | None = None,
    strategy: int = 1,
    tolerance: float = 0.01,
) -> FitResult:
    """Fit the model with MIGRAD and HESSE of iminuit (extra ``fit``): a cross-check.

    Value and gradient are compiled. Neither differentiable nor for use inside jit; see
    :func:`difana.infer.fit` for that.

    Args:
        model: The model.
        data: Data vector.
        init: Starting point; ``model.init`` by default.
        fixed: Parameters held at given values, by name.
        strategy: MINUIT strategy, 0 to 2.
        tolerance: MINUIT tolerance: stops at an estimated distance of 0.002 times this.

    Returns:
        The same as :func:`difana.infer.fit`; ``steps`` counts the calls of the function.

    Raises:
        InputError: If iminuit is not installed.
        ModelError: If a parameter does not exist or the data have the wrong length.

    References:
        F. James, M. Roos, Comput. Phys. Commun. 10 (1975) 343.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = minuit_fit(model, model.data([55.0, 60.0]))
        >>> result.ok, round(float(result["mu"]), 3)
        (True, 0.521)
    """
    try:
        from iminuit import Minuit
    except ImportError as error:
        raise InputError("iminuit is not installed: pip install 'difana[fit]'") from error
    model.check_data(data)
    held = np.array(model.fixed)
    values = np.array(jnp.where(model.fixed, model.init, model.init if init is None else init))
    for name, value in (fixed or {}).items():
        held[model.index(name)] = True
        values[model.index(name)] = value

    def nll(params: Any) -> float:
        return float(_value_and_gradient(model, jnp.asarray(params), data)[0])

    def gradient(params: Any) -> Any:
        return np.asarray(_value_and_gradient(model, jnp.asarray(params), data)[1])

    # with `name`, iminuit hands all parameters over in one array
    minuit = Minuit(cast(Any, nll), values, grad=cast(Any, gradient), name=model.parameters)
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.print_level = 0
    minuit.strategy, minuit.tol = strategy, tolerance
    minuit.limits = list(zip(np.asarray(model.lower), np.asarray(model.upper), strict=True))
    minuit.fixed = held.tolist()
    minuit.errors = np.where(held, 0.1, np.maximum(0.1 * np.abs(values), 0.01))
    for _ in range(2):  # the second time with the exact covariance: a Newton step
        minuit.migrad()
        minuit.hesse()
    params = jnp.asarray(np.array(minuit.values), model.nominal.dtype)
    covariance = np.zeros((values.size, values.size))
    if minuit.covariance is not None:
        covariance = np.array(minuit.covariance)
    half_deviance, slope = _value_and_gradient(model, params, data)
    near = (np.abs(params - model.lower) < 1e-6) | (np.abs(params - model.upper) < 1e-6)
    status = (
        flag(jnp.asarray(not minuit.valid), Status.NOT_CONVERGED)
        | flag(jnp.asarray(not minuit.accurate), Status.INDEFINITE)
        | flag(jnp.any(near & ~held), Status.AT_BOUND)
        | negative_yield(model, params)
    )
    return FitResult(
        params=params,
        nll=half_deviance - model.saturated(data),
        half_deviance=half_deviance,
        gradient=slope,
        covariance=jnp.asarray(covariance, model.nominal.dtype),
        status=status,
        steps=jnp.asarray(minuit.nfcn),
        distance=jnp.asarray(minuit.fmin.edm if minuit.fmin else jnp.nan),
        names=model.parameters,
    )
