"""Density ratios by classifiers: ensembles, calibration, negative weights, caps."""

from __future__ import annotations

from difana.ratio.calibrated import calibrated
from difana.ratio.calibration import Isotonic, Temperature, fit_isotonic, fit_temperature
from difana.ratio.classify import Classes, ClassifyReport, classify
from difana.ratio.fit_ratio import RatioResult, fit_ratio
from difana.ratio.fit_ratios import RatiosResult, fit_ratios
from difana.ratio.log_ratio import LogRatio, LogRatios
from difana.ratio.rows import RatioRows, two_samples
from difana.ratio.signed import SignedRatio, SignedRatioResult, fit_signed_ratio
from difana.ratio.stacked import evaluate, log_mean, stacked_nets

__all__ = [
    "Classes",
    "ClassifyReport",
    "Isotonic",
    "LogRatio",
    "LogRatios",
    "RatioResult",
    "RatioRows",
    "RatiosResult",
    "SignedRatio",
    "SignedRatioResult",
    "Temperature",
    "calibrated",
    "classify",
    "evaluate",
    "fit_isotonic",
    "fit_ratio",
    "fit_ratios",
    "fit_signed_ratio",
    "fit_temperature",
    "log_mean",
    "stacked_nets",
    "two_samples",
]
