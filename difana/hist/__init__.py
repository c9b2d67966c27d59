"""Observable to yields: soft and hard histograms, and their edges."""

from difana.hist._checks import check_edges
from difana.hist.bandwidth import LearnedBandwidth, bin_coordinate, soft_hard_bias
from difana.hist.binning import FixedEdges, TrainableEdges
from difana.hist.by_relaxed import relaxed_cut, relaxed_histogram
from difana.hist.cut import soft_cut
from difana.hist.edges import equal_yield_edges, quantile_edges, uniform_edges
from difana.hist.hard import hard_histogram
from difana.hist.histogram import Axis, Histogram
from difana.hist.nd import soft_histogram_nd
from difana.hist.shares import Shares, product_shares, soft_regions, soft_shares
from difana.hist.soft import soft_histogram, straight_through_histogram
from difana.hist.softmax import argmax_histogram, softmax_histogram

__all__ = [
    "Axis",
    "FixedEdges",
    "Histogram",
    "LearnedBandwidth",
    "Shares",
    "TrainableEdges",
    "argmax_histogram",
    "bin_coordinate",
    "check_edges",
    "equal_yield_edges",
    "hard_histogram",
    "product_shares",
    "quantile_edges",
    "relaxed_cut",
    "relaxed_histogram",
    "soft_cut",
    "soft_hard_bias",
    "soft_histogram",
    "soft_histogram_nd",
    "soft_regions",
    "soft_shares",
    "softmax_histogram",
    "straight_through_histogram",
    "uniform_edges",
]
