"""Limits, CLs and significance of a model: plain numbers, each kind compiled once a structure."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError
from difana.infer import (
    FitResult,
    LimitResult,
    Status,
    describe,
    fit,
    hypotest,
    significance,
    upper_limit,
    upper_limit_q,
)
from difana.infer.statistics import check_negative
from difana.likelihood import Model


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
        model: The model; all but the best fit needs its parameter of interest.
        data: Data vector. Without data all numbers are expected ones, from background-only Asimov
            data with nuisances at their starting values; with data the nuisances are fitted first.

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
        arXiv:1007.1727.
    """

    def __init__(self, model: Model, data: Float[Array, " data"] | None = None) -> None:
        """Remember model and data, which are checked; nothing is fitted yet."""
        if data is not None:
            model.check_data(data)
        self.model = model
        self.data = data

    @functools.cached_property
    def best(self) -> FitResult:
        """The best fit to the data, within the bounds of the model."""
        if self.data is None:
            raise ModelError("a fit needs data")
        return _fit(self.model, self.data)

    def limits(self, *, level: float = 0.95, statistic: str = "qtilde") -> Limits:
        """Return the observed and the five expected upper limits, with ``qtilde`` or ``qmu``."""
        search = _limit
        if statistic != "qtilde":
            check_negative(self.model)  # bounds are traced inside
            search = _limit_q
        found = search(self.model, self.data, level)
        return Limits(_number(found.observed), _numbers(found.expected), say(found.status))

    def cls(self, mu: float = 1.0, *, statistic: Literal["qtilde", "qmu"] = "qtilde") -> CLs:
        """Return observed and expected CLs of a tested value, with ``qtilde`` or ``qmu``."""
        if not (np.isfinite(mu) and mu >= 0):
            raise ModelError(f"mu = {mu}: must be a finite number of at least 0")
        if statistic != "qtilde":
            check_negative(self.model)
        tested = jnp.asarray(mu, self.model.nominal.dtype)
        found = _test(self.model, self.data, mu=tested, statistic=statistic)
        return CLs(mu, _number(found.observed), _numbers(found.expected), say(found.status))

    def significance(self) -> Significance:
        """Return observed and expected discovery significance."""
        found = _significance(self.model, self.data)
        observed = None if found.observed is None else float(found.observed)
        return Significance(observed, float(found.expected), say(found.status))

    @property
    def mu_hat(self) -> float:
        """Best-fit value of the parameter of interest, within the bounds of the model."""
        return float(self.best.params[self.model.poi_index])


_fit = eqx.filter_jit(fit)
_test = eqx.filter_jit(hypotest)
_significance = eqx.filter_jit(significance)


@eqx.filter_jit
def _limit(model: Model, data: Array | None, level: float) -> LimitResult:
    return upper_limit(model, data, level=level)


@eqx.filter_jit
def _limit_q(model: Model, data: Array | None, level: float) -> LimitResult:
    return upper_limit_q(model, data, level=level)


_UNBOUNDED = 1e12  # where the search for a limit gives up


def _number(value: Array | None) -> float | None:
    return None if value is None else _numbers(value)[0]


def _numbers(values: Array) -> tuple[float, ...]:
    plain = np.atleast_1d(np.asarray(values, float))
    return tuple(np.where(plain < _UNBOUNDED, plain, np.nan).tolist())


def say(status: Array) -> str:
    """Return a status in words; a parameter at a bound does no harm."""
    return describe(int(status) & ~int(Status.AT_BOUND))
