"""The statistics of the final model: fit, yields with uncertainties, limits, scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from difana.analysis.blinding import Seen, expected_vector
from difana.analysis.interests import models_of
from difana.infer import (
    CLsResult,
    FitResult,
    Inference,
    IntervalResult,
    LimitResult,
    ScanResult,
    SignificanceResult,
    YieldsResult,
    prefit_covariance,
    profile_interval,
    profile_scan,
    yields,
)
from difana.likelihood import Model

SCAN_POINTS = 31
_POINTS, _SIDES = 25, 3.5  # of the plane: along each parameter, and in standard deviations


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
class Interest:
    """What the final model says of one of several parameters of interest.

    Attributes:
        name: The parameter.
        limits: Its upper limits; the observed one is not a number without data.
        cls: CLs of 1, the same.
        significance: The same.
        scan: CLs against it.
        interval: Interval of one standard deviation: of the data, or of Asimov data with all
            parameters of interest at 1.
    """

    name: str
    limits: LimitResult
    cls: CLsResult
    significance: SignificanceResult
    scan: Scan
    interval: IntervalResult


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
        interests: Of several parameters of interest, what is said of each.
        plane: Likelihood scan over the first two of them, of the data or of Asimov data with all
            at 1; None for one.
    """

    fit: FitResult
    prefit: YieldsResult
    postfit: YieldsResult
    postfit_background: YieldsResult
    unit: YieldsResult
    scan: Scan
    observed: Observed | None
    control: ControlFit | None = None
    interests: tuple[Interest, ...] = ()
    plane: ScanResult | None = None


def final_statistics(
    model: Model, seen: Seen, *, tops: Mapping[str, float], fixed: bool = False
) -> Final:
    """Return fit, yields, scan and, for real data, observed limits.

    Args:
        model: The model, its parameter of interest the first.
        seen: Its data: observed, Asimov data, or both where regions are blinded.
        tops: Largest value of the scan of each parameter of interest.
        fixed: Hold the other parameters of interest in the fits for one.
    """
    pois = tuple(tops)
    models = models_of(model, pois, fixed=fixed)
    best = Inference(model, seen.vector).best if seen.fit is None else seen.fit
    asimov = None if seen.at is None else expected_vector(model, seen.at)
    data = seen.vector if seen.real else asimov
    inference = Inference(models[pois[0]], data)
    scan = _scan(inference, tops[pois[0]], real=seen.real)
    observed = control = None
    if seen.real:
        observed = Observed(inference.limits(), inference.cls(1.0), inference.significance())
    elif seen.at is not None:
        signal = expected_vector(model, seen.at.at[model.poi_index].set(1.0))
        discovery = Inference(models[pois[0]], signal).significance()
        control = ControlFit.of(inference.limits(), inference.cls(1.0), discovery)
    places = np.array([model.index(poi) for poi in pois])
    start, covariance = _before(model)
    prefit, unit = (
        yields(model, start.at[places].set(mu), covariance, label="pre-fit") for mu in (0.0, 1.0)
    )
    background = yields(model, *_without_signal(model, best, places), label="post-fit")
    after = yields(model, fit=best)
    found = Final(best, prefit, after, background, unit, scan, observed, control)
    if len(pois) == 1:
        return found
    at = start if seen.at is None else seen.at
    measured = seen.vector if seen.real else expected_vector(model, at.at[places].set(1.0))
    interests = tuple(
        _interest(name, own, data, measured, top=tops[name], real=seen.real)
        for name, own in models.items()
    )
    return dataclasses.replace(found, interests=interests, plane=_plane(model, measured, pois))


def _scan(inference: Inference, top: float, *, real: bool) -> Scan:
    mu = np.linspace(0.0, top, SCAN_POINTS)
    tests = [inference.cls(value) for value in mu]
    return Scan(
        mu,
        np.array([test.observed for test in tests]) if real else None,
        np.array([test.expected for test in tests]),
    )


def _interest(
    name: str,
    model: Model,
    data: Float[Array, " data"] | None,
    measured: Float[Array, " data"],
    *,
    top: float,
    real: bool,
) -> Interest:
    """Return what a model says of its parameter of interest."""
    inference = Inference(model, data)
    return Interest(
        name,
        inference.limits(),
        inference.cls(1.0),
        inference.significance(),
        _scan(inference, top, real=real),
        profile_interval(model, measured, name),
    )


def _plane(model: Model, data: Float[Array, " data"], pois: Sequence[str]) -> ScanResult:
    """Return the likelihood around the best fit of the first two parameters of interest."""
    fit = Inference(model, data).best
    values = {}
    for name in pois[:2]:
        place = model.index(name)
        width = _SIDES * float(fit.uncertainties[place])
        low, high = (float(end[place]) for end in (model.lower, model.upper))
        value = float(fit[name])
        values[name] = np.linspace(max(value - width, low), min(value + width, high), _POINTS)
    return profile_scan(model, data, values, fit=fit)


# compiled whole: one by one, the operations of a model cost seconds of compilation


@jax.jit
def _before(model: Model) -> tuple[Array, Array]:
    """Return parameters and covariance before the fit."""
    return model.init, prefit_covariance(model)


@jax.jit
def _without_signal(
    model: Model, fit: FitResult, places: Int[Array, " pois"]
) -> tuple[Array, Array]:
    """Return the parameters of a fit without signal, and the covariance of the others."""
    found = fit.covariance.at[places].set(0.0).at[:, places].set(0.0)
    return fit.params.at[places].set(0.0), found
