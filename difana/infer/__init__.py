"""Room 5: model to inference. Fits, test statistics, CLs, limits, significance."""

from difana.infer.asimov import Asimov, asimov_data
from difana.infer.fit import FitResult, fisher_information, fit
from difana.infer.hypotest import BAND, CLsResult, expected_cls, hypotest
from difana.infer.limit import LimitResult, expected_limits, upper_limit
from difana.infer.posterior import PosteriorResult, numpyro_model, posterior
from difana.infer.significance import SignificanceResult, significance
from difana.infer.statistics import StatisticResult, q0, qmu
from difana.infer.status import Status, describe, trustworthy

__all__ = [
    "BAND",
    "Asimov",
    "CLsResult",
    "FitResult",
    "LimitResult",
    "PosteriorResult",
    "SignificanceResult",
    "StatisticResult",
    "Status",
    "asimov_data",
    "describe",
    "expected_cls",
    "expected_limits",
    "fisher_information",
    "fit",
    "hypotest",
    "numpyro_model",
    "posterior",
    "q0",
    "qmu",
    "significance",
    "trustworthy",
    "upper_limit",
]
