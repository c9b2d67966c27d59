"""Pictures and the report; each function draws into given axes or a new figure and returns it."""

from difana.plot.analysis_report import analysis_report as analysis_report
from difana.plot.brazil import brazil as brazil
from difana.plot.cls_scan import cls_scan as cls_scan
from difana.plot.comparison import comparison as comparison
from difana.plot.convergence import convergence as convergence
from difana.plot.correlation import correlation as correlation
from difana.plot.data_mc import data_mc as data_mc
from difana.plot.delta_nll import delta_nll as delta_nll
from difana.plot.envelope import envelope as envelope
from difana.plot.exclusion import exclusion as exclusion
from difana.plot.history import history as history
from difana.plot.impacts import impacts as impacts
from difana.plot.importance import importance as importance
from difana.plot.importance import profile as profile
from difana.plot.number_of_bins import number_of_bins as number_of_bins
from difana.plot.pulls import pulls as pulls
from difana.plot.report import Picture as Picture
from difana.plot.report import Section as Section
from difana.plot.report import report as report
from difana.plot.response import response as response
from difana.plot.roc import roc as roc
from difana.plot.scan import scan as scan
from difana.plot.scores import scores as scores
from difana.plot.soft_hard import soft_hard as soft_hard
from difana.plot.systematics import systematics as systematics
from difana.plot.uncertainty_split import uncertainty_split as uncertainty_split
from difana.plot.unfolded import unfolded as unfolded
from difana.plot.unfolded import unfolded_correlation as unfolded_correlation
from difana.plot.unfolded import unfolding_report as unfolding_report
from difana.plot.unfolding_weights import unfolding_weights as unfolding_weights
from difana.plot.yields import yields as yields

__all__ = [
    "Picture",
    "Section",
    "analysis_report",
    "brazil",
    "cls_scan",
    "comparison",
    "convergence",
    "correlation",
    "data_mc",
    "delta_nll",
    "envelope",
    "exclusion",
    "history",
    "impacts",
    "importance",
    "number_of_bins",
    "profile",
    "pulls",
    "report",
    "response",
    "roc",
    "scan",
    "scores",
    "soft_hard",
    "systematics",
    "uncertainty_split",
    "unfolded",
    "unfolded_correlation",
    "unfolding_report",
    "unfolding_weights",
    "yields",
]
