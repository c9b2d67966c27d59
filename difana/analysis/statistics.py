"""The statistics of the final model: fit, yields with uncertainties, limits, scan."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from difana.analysis.blinding import Seen, expected_vector
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
class ControlFit:
    """What is expected where the nuisances stand at a fit to the regions that are not blinded.

    Attributes:
        limits: Expected upper limits at -2, -1, 0, 1, 2 standard deviations.
        cls: Expected CLs of ``mu = 1``, in the same order.
        significance: Expected significance of ``mu = 1``.
        status: ``ok``, or why the numbers cannot be trusted.
    """

    limits: tuple[float, ...]
    cls: tuple[float, ...]
    significance: float
    status: str

    @classmethod
    def of(cls, limits: LimitResult, test: CLsResult, found: SignificanceResult) -> ControlFit:
        """Keep what is expected alone: the rest compares predictions with themselves."""
        bad = dict.fromkeys(own.verdict for own in (limits, test, found) if not own.ok)
        return cls(
            tuple(np.asarray(limits.expected).tolist()),
            tuple(np.asarray(test.expected).tolist()),
            float(found.expected),
            "; ".join(bad) or "ok",
        )


@dataclasses.dataclass(frozen=True)
class Final:
    """All numbers of the final model.

    Attributes:
        fit: The best fit to the data; where some regions are blinded, to the others without signal.
        prefit: Yields without signal, nuisances at their starting values.
        postfit: Yields of the best fit.
        postfit_background: The same without signal.
        unit: The same as ``prefit`` at unit signal strength.
        scan: CLs against the parameter of interest.
        observed: What the data say; None without real data, or where a region is blinded.
        control: What is expected after the fit to the regions not blinded; None elsewhere.
    """

    fit: FitResult
    prefit: YieldsResult
    postfit: YieldsResult
    postfit_background: YieldsResult
    unit: YieldsResult
    scan: Scan
    observed: Observed | None
    control: ControlFit | None = None


def final_statistics(model: Model, seen: Seen, *, top: float) -> Final:
    """Return fit, yields, scan and, for real data, observed limits.

    Args:
        model: The model.
        seen: Its data: observed, Asimov data, or both where regions are blinded.
        top: Largest value of the scan.
    """
    best = Inference(model, seen.vector).best if seen.fit is None else seen.fit
    asimov = None if seen.at is None else expected_vector(model, seen.at)
    inference = Inference(model, seen.vector if seen.real else asimov)
    mu = np.linspace(0.0, top, SCAN_POINTS)
    tests = [inference.cls(value) for value in mu]
    scan = Scan(
        mu,
        np.array([test.observed for test in tests]) if seen.real else None,
        np.array([test.expected for test in tests]),
    )
    observed = control = None
    if seen.real:
        observed = Observed(inference.limits(), inference.cls(1.0), inference.significance())
    elif seen.at is not None:
        signal = expected_vector(model, seen.at.at[model.poi_index].set(1.0))
        discovery = Inference(model, signal).significance()
        control = ControlFit.of(inference.limits(), inference.cls(1.0), discovery)
    start, covariance = _before(model)
    prefit, unit = (
        yields(model, start.at[model.poi_index].set(mu), covariance, label="pre-fit")
        for mu in (0.0, 1.0)
    )
    background = yields(model, *_without_signal(model, best), label="post-fit")
    after = yields(model, fit=best)
    return Final(best, prefit, after, background, unit, scan, observed, control)


# compiled whole: one by one, the operations of a model cost seconds of compilation


@jax.jit
def _before(model: Model) -> tuple[Array, Array]:
    """Return parameters and covariance before the fit."""
    return model.init, prefit_covariance(model)


@jax.jit
def _without_signal(model: Model, fit: FitResult) -> tuple[Array, Array]:
    """Return the parameters of a fit without signal, and the covariance of the others."""
    i = model.poi_index
    return fit.params.at[i].set(0.0), fit.covariance.at[i].set(0.0).at[:, i].set(0.0)
