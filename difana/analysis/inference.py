"""Limits, CLs and significance of a model from one compiled fit, driven from the host.

The functions of `difana.infer` run inside ``jit`` and compile a fit for every place where one
stands, which is right in a training step but slow for a handful of numbers. Here one fit is
compiled for each model structure and called as often as needed: the same numbers, without
gradients, after a fraction of the compilation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError
from difana.infer import FitResult, Status, describe, expected_cls
from difana.infer.fit import solve
from difana.infer.hypotest import log_cls_observed, target_root
from difana.likelihood import Model

_MAX_DOUBLINGS = 60


@dataclasses.dataclass(frozen=True)
class Limits:
    """Upper limits.

    Attributes:
        observed: Observed limit; None without data.
        expected: Expected limits at -2, -1, 0, 1, 2 standard deviations.
        status: ``ok``, or why the numbers cannot be trusted.
    """

    observed: float | None
    expected: tuple[float, ...]
    status: str


@dataclasses.dataclass(frozen=True)
class CLs:
    """CLs of one tested value.

    Attributes:
        mu: The tested value.
        observed: Observed CLs; None without data.
        expected: Expected CLs at -2, -1, 0, 1, 2 standard deviations.
        status: ``ok``, or why the numbers cannot be trusted.
    """

    mu: float
    observed: float | None
    expected: tuple[float, ...]
    status: str


@dataclasses.dataclass(frozen=True)
class Significance:
    """Discovery significance in standard deviations.

    Attributes:
        observed: Observed significance; None without data.
        expected: Median expected significance for ``mu = 1``.
        status: ``ok``, or why the numbers cannot be trusted.
    """

    observed: float | None
    expected: float
    status: str


class Inference:
    """Asymptotic inference (q-tilde) on one model.

    Args:
        model: The model; it needs a parameter of interest.
        data: Data vector. Without data all numbers are expected ones, from background-only Asimov
            data with nuisances at their starting values; with data the nuisances are fitted first.

    Raises:
        ModelError: If the model has no parameter of interest.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> inference = Inference(model, model.data([51.0, 48.0]))
        >>> limits = inference.limits()
        >>> round(limits.observed, 5), round(limits.expected[2], 5), limits.status
        (1.01157, 1.06236, 'ok')
        >>> round(inference.cls(1.0).observed, 6)
        0.052516

    References:
        arXiv:1007.1727; the numbers agree with `difana.infer.upper_limit` and `hypotest`.
    """

    def __init__(self, model: Model, data: Float[Array, " data"] | None = None) -> None:
        """Remember model and data; nothing is fitted yet."""
        self.model = model
        self.data = data
        self._poi = model.poi_index  # raises without one
        self._status = 0

    @property
    def _given(self) -> Array:
        if self.data is None:
            raise ModelError("a fit needs data")
        return self.data

    @functools.cached_property
    def best(self) -> FitResult:
        """The best fit to the data, within the bounds of the model."""
        bounds = _bounds(self.model)
        return _solve(self.model, self._given, self.model.init, mu=0.0, hold=False, bounds=bounds)

    @functools.cached_property
    def _free(self) -> FitResult:
        """The best fit with a parameter of interest that is not negative, nor bounded above."""
        return self._fit(self._given, None)

    @functools.cached_property
    def _asimov(self) -> tuple[Array, float]:
        """Background-only Asimov data, and half the deviance of what made them."""
        return self._asimov_at(0.0)

    def limits(self, *, level: float = 0.95) -> Limits:
        """Return the observed and the five expected upper limits."""
        if not 0 < level < 1:
            raise ModelError(f"the confidence level must lie between 0 and 1, not {level}")
        expected: list[float] = []
        for target in np.asarray(target_root(1 - level)).tolist():
            guess = expected[-1] if expected else self._guess(target)
            expected.append(self._root(lambda mu, t=target: np.sqrt(self._q_asimov(mu)) - t, guess))
        observed = None
        if self.data is not None:

            def excess(mu: float) -> float:
                return float(np.log(1 - level) - self._log_cls(mu))

            observed = self._root(excess, max(expected[2], 1.5 * self.mu_hat))
        return Limits(observed, tuple(expected), describe(self._status))

    def cls(self, mu: float = 1.0) -> CLs:
        """Return observed and expected CLs of a tested value."""
        expected = np.asarray(expected_cls(jnp.asarray(self._q_asimov(mu)))).tolist()
        observed = None if self.data is None else float(np.exp(self._log_cls(mu)))
        return CLs(mu, observed, tuple(expected), describe(self._status))

    def significance(self) -> Significance:
        """Return observed and expected discovery significance."""
        data, peak = self._asimov_at(1.0)
        expected = np.sqrt(self._ratio(data, 0.0, peak))
        observed = None
        if self.data is not None:
            q = self._ratio(self.data, 0.0, float(self._free.half_deviance))
            observed = float(np.sqrt(q)) if self.mu_hat > 0 else 0.0
        return Significance(observed, float(expected), describe(self._status))

    @property
    def mu_hat(self) -> float:
        """Best-fit value of the parameter of interest."""
        return float(self._free.params[self._poi])

    def _fit(self, data: Array, mu: float | None) -> FitResult:
        bounds = _bounds(self.model).at[:, self._poi].set(jnp.array([0.0, jnp.inf]))
        value, hold = (0.0, False) if mu is None else (float(mu), True)
        # always from the starting values: of two minima all fits then find the same (as in pyhf)
        start = self.model.init
        result = _solve(self.model, data, start, mu=value, hold=hold, bounds=bounds)
        # a parameter at a bound does no harm
        self._status |= int(result.status) & ~int(Status.AT_BOUND)
        return result

    def _ratio(self, data: Array, mu: float, smallest: float) -> float:
        """Return twice the logarithm of the likelihood ratio to the best description."""
        return max(2 * (float(self._fit(data, mu).half_deviance) - smallest), 0.0)

    def _asimov_at(self, mu: float) -> tuple[Array, float]:
        params = self.model.init if self.data is None else self._fit(self.data, mu).params
        data, smallest = _asimov_data(self.model, params, mu)
        return data, float(smallest)

    def _q_asimov(self, mu: float) -> float:
        data, smallest = self._asimov
        return self._ratio(data, mu, smallest)

    def _log_cls(self, mu: float) -> float:
        q = 0.0
        if self.mu_hat <= mu:
            q = self._ratio(self._given, mu, float(self._free.half_deviance))
        both = log_cls_observed(jnp.asarray(q), jnp.asarray(self._q_asimov(mu)))
        return float(both[0] - both[1])

    def _guess(self, target: float) -> float:
        """Return about where sqrt(q_A) reaches the target: it is nearly linear."""
        root = np.sqrt(self._q_asimov(1.0))
        return target / root if root > 0 else 1.0

    def _root(self, function: Callable[[float], float], guess: float) -> float:
        """Return the root of a rising function of mu > 0."""
        from scipy.optimize import brentq

        low, high = 0.0, guess if np.isfinite(guess) and guess > 0 else 1.0
        for _ in range(_MAX_DOUBLINGS):
            if function(high) > 0:
                root: Any = brentq(function, low, high, xtol=1e-12 * high)
                return float(root)
            low, high = high, 1.5 * high
        self._status |= int(Status.NOT_BRACKETED)
        return float("nan")


def _bounds(model: Model) -> Float[Array, "2 params"]:
    return jnp.stack([model.lower, model.upper])


@jax.jit
def _solve(
    model: Model, data: Array, start: Array, *, mu: Array, hold: Array, bounds: Array
) -> FitResult:
    """Fit with the parameter of interest held or not: one compilation for both."""
    held, index = model.fixed, model.poi_index
    values = jnp.where(held, model.init, start)
    values = values.at[index].set(jnp.where(hold, mu, values[index]))
    held = held.at[index].set(held[index] | hold)
    return solve(model, data, values, held=held, lower=bounds[0], upper=bounds[1])


@jax.jit
def _asimov_data(model: Model, params: Array, mu: Array) -> tuple[Array, Array]:
    """Return the Asimov data of some parameters, and half the deviance there."""
    params = params.at[model.poi_index].set(mu)
    data = model.expected(params)
    return data, model.half_deviance(params, data)
