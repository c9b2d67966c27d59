"""The statistics of the final model: fit, yields with uncertainties, limits, scan."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from difana.infer import (
    CLsResult,
    FitResult,
    Inference,
    LimitResult,
    SignificanceResult,
    YieldsResult,
    prefit_covariance,
    yields,
)
from difana.likelihood import Model

SCAN_POINTS = 31


class Scan(eqx.Module):
    """CLs against the parameter of interest.

    Attributes:
        mu: Tested values.
        observed: Observed CLs; None without data.
        expected: Expected CLs, ``[points, 5]``.
    """

    mu: Float[np.ndarray, " points"]
    observed: Float[np.ndarray, " points"] | None
    expected: Float[np.ndarray, "points 5"]


@dataclasses.dataclass(frozen=True)
class Observed:
    """What real data say.

    Attributes:
        limits: Observed upper limit, and expected ones with nuisances fitted to the data.
        cls: CLs of ``mu = 1``, the same.
        significance: Observed significance, and the expected one.
    """

    limits: LimitResult
    cls: CLsResult
    significance: SignificanceResult


@dataclasses.dataclass(frozen=True)
class Final:
    """All numbers of the final model.

    Attributes:
        fit: The best fit to the data.
        prefit: Yields without signal, nuisances at their starting values.
        postfit: Yields of the best fit.
        unit: Yields of every template and bin at unit signal strength.
        scan: CLs against the parameter of interest.
        observed: What the data say; None without real data.
    """

    fit: FitResult
    prefit: YieldsResult
    postfit: YieldsResult
    unit: Float[Array, " rows"]
    scan: Scan
    observed: Observed | None


def final_statistics(model: Model, data: Float[Array, " data"], *, top: float, real: bool) -> Final:
    """Return fit, yields, scan and, for real data, observed limits.

    Args:
        model: The model.
        data: Observed events, or background-only Asimov data.
        top: Largest value of the scan.
        real: Whether the data are real.
    """
    best = Inference(model, data).best
    inference = Inference(model, data if real else None)
    mu = np.linspace(0.0, top, SCAN_POINTS)
    tests = [inference.cls(value) for value in mu]
    scan = Scan(
        mu,
        np.array([test.observed for test in tests]) if real else None,
        np.array([test.expected for test in tests]),
    )
    observed = None
    if real:
        observed = Observed(inference.limits(), inference.cls(1.0), inference.significance())
    start, covariance, unit = _before(model)
    prefit = yields(model, start, covariance, label="pre-fit")
    return Final(best, prefit, yields(model, fit=best), unit, scan, observed)


# compiled whole: one by one, the operations of a model cost seconds of compilation


@jax.jit
def asimov_vector(model: Model) -> Float[Array, " data"]:
    """Return background-only Asimov data."""
    return model.expected(model.init.at[model.poi_index].set(0.0))


@jax.jit
def data_vector(model: Model, observed: Float[Array, " bins"]) -> Float[Array, " data"]:
    """Return observed yields and auxiliary data."""
    return model.data(observed)


@jax.jit
def _before(model: Model) -> tuple[Array, Array, Array]:
    """Return parameters without signal, their covariance, and the yields of unit signal."""
    start = model.init.at[model.poi_index]
    return start.set(0.0), prefit_covariance(model), model.rows(start.set(1.0))
