"""Room 5: model to inference. Fits, test statistics, CLs, limits, significance."""

from difana.infer.asimov import Asimov, asimov_data
from difana.infer.distributed import map_points_distributed
from difana.infer.feldman_cousins import FeldmanCousinsResult, feldman_cousins
from difana.infer.fit import FitResult, fisher_information, fit
from difana.infer.hypotest import BAND, CLsResult, expected_cls, hypotest
from difana.infer.limit import LimitResult, expected_limits, upper_limit
from difana.infer.posterior import PosteriorResult, numpyro_model, posterior
from difana.infer.sampling import sample_data
from difana.infer.sharding import map_points
from difana.infer.significance import SignificanceResult, significance
from difana.infer.statistics import StatisticResult, q0, qmu
from difana.infer.status import Status, describe, trustworthy
from difana.infer.toy_limit import ToyLimitResult, toy_upper_limit
from difana.infer.toys import ToysResult, combine_toys, toys
from difana.infer.two_sided import tmu, tmu_p_value, tmu_tilde, tmu_tilde_p_value

__all__ = [
    "BAND",
    "Asimov",
    "CLsResult",
    "FeldmanCousinsResult",
    "FitResult",
    "LimitResult",
    "PosteriorResult",
    "SignificanceResult",
    "StatisticResult",
    "Status",
    "ToyLimitResult",
    "ToysResult",
    "asimov_data",
    "combine_toys",
    "describe",
    "expected_cls",
    "expected_limits",
    "feldman_cousins",
    "fisher_information",
    "fit",
    "hypotest",
    "map_points",
    "map_points_distributed",
    "numpyro_model",
    "posterior",
    "q0",
    "qmu",
    "sample_data",
    "significance",
    "tmu",
    "tmu_p_value",
    "tmu_tilde",
    "tmu_tilde_p_value",
    "toy_upper_limit",
    "toys",
    "trustworthy",
    "upper_limit",
]
