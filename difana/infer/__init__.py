"""Room 5: model to inference. Fits, test statistics, CLs, limits, significance."""

from difana._result import AbstractResult
from difana._status import Status, describe, trustworthy
from difana.infer.after_fit.delta_nll import DeltaNllResult, delta_nll
from difana.infer.after_fit.expected_yields import ExpectedYields, normalised, ratio, total
from difana.infer.after_fit.goodness import GoodnessResult, goodness_of_fit
from difana.infer.after_fit.impacts import ImpactsResult, impacts
from difana.infer.after_fit.observables import ObservablesResult, observables
from difana.infer.after_fit.pulls import (
    PullsResult,
    prefit_covariance,
    prefit_parameters,
    prefit_uncertainties,
    pulls,
)
from difana.infer.after_fit.sensitivity import (
    Scales,
    SensitivityResult,
    scaled,
    sensitivity,
)
from difana.infer.after_fit.uncertainty_split import UncertaintySplit, uncertainty_split
from difana.infer.after_fit.what_would_help import HelpResult, what_would_help
from difana.infer.after_fit.yields import YieldsResult, yields
from difana.infer.asimov import Asimov, asimov_data
from difana.infer.discrete_limit import discrete_upper_limit
from difana.infer.discrete_profile import DiscreteProfileResult, discrete_profile
from difana.infer.fit import fisher_information, fit
from difana.infer.fit_result import FitResult
from difana.infer.hypotest import BAND, CLsResult, cls_band, hypotest
from difana.infer.inference import Inference
from difana.infer.intervals import IntervalResult, profile_interval
from difana.infer.limit import LimitResult, expected_limits, upper_limit
from difana.infer.minuit import minuit_fit
from difana.infer.notes import NotesResult, NotesStatus, notes
from difana.infer.parallel.distributed import map_points_distributed
from difana.infer.parallel.sharding import map_points
from difana.infer.posterior.numpyro_model import numpyro_model
from difana.infer.posterior.posterior import posterior, posterior_predictive
from difana.infer.posterior.posterior_result import PosteriorResult, PosteriorSummary
from difana.infer.q_limit import upper_limit_q
from difana.infer.scan import ScanResult, profile_scan
from difana.infer.several_starts import SeveralStartsResult, fit_from_several
from difana.infer.significance import SignificanceResult, significance
from difana.infer.statistics import StatisticResult, q0, qmu
from difana.infer.toys.feldman_cousins import FeldmanCousinsResult, feldman_cousins
from difana.infer.toys.sampling import sample_data
from difana.infer.toys.toy_limit import ToyLimitResult, toy_upper_limit
from difana.infer.toys.toys import combine_toys, toys
from difana.infer.toys.toys_result import ToysResult
from difana.infer.two_sided import tmu, tmu_p_value, tmu_tilde, tmu_tilde_p_value

__all__ = [
    "BAND",
    "AbstractResult",
    "Asimov",
    "CLsResult",
    "DeltaNllResult",
    "DiscreteProfileResult",
    "ExpectedYields",
    "FeldmanCousinsResult",
    "FitResult",
    "GoodnessResult",
    "HelpResult",
    "ImpactsResult",
    "Inference",
    "IntervalResult",
    "LimitResult",
    "NotesResult",
    "NotesStatus",
    "ObservablesResult",
    "PosteriorResult",
    "PosteriorSummary",
    "PullsResult",
    "Scales",
    "ScanResult",
    "SensitivityResult",
    "SeveralStartsResult",
    "SignificanceResult",
    "StatisticResult",
    "Status",
    "ToyLimitResult",
    "ToysResult",
    "UncertaintySplit",
    "YieldsResult",
    "asimov_data",
    "cls_band",
    "combine_toys",
    "delta_nll",
    "describe",
    "discrete_profile",
    "discrete_upper_limit",
    "expected_limits",
    "feldman_cousins",
    "fisher_information",
    "fit",
    "fit_from_several",
    "goodness_of_fit",
    "hypotest",
    "impacts",
    "map_points",
    "map_points_distributed",
    "minuit_fit",
    "normalised",
    "notes",
    "numpyro_model",
    "observables",
    "posterior",
    "posterior_predictive",
    "prefit_covariance",
    "prefit_parameters",
    "prefit_uncertainties",
    "profile_interval",
    "profile_scan",
    "pulls",
    "q0",
    "qmu",
    "ratio",
    "sample_data",
    "scaled",
    "sensitivity",
    "significance",
    "tmu",
    "tmu_p_value",
    "tmu_tilde",
    "tmu_tilde_p_value",
    "total",
    "toy_upper_limit",
    "toys",
    "trustworthy",
    "uncertainty_split",
    "upper_limit",
    "upper_limit_q",
    "what_would_help",
    "yields",
]
