"""Figures of merit of an observable: exact, weighted, on the host or inside jit."""

from difana.metrics.background_rejection import background_rejection as background_rejection
from difana.metrics.calibration_error import calibration_error as calibration_error
from difana.metrics.relative_bias import relative_bias as relative_bias
from difana.metrics.roc_auc import roc_auc as roc_auc
from difana.metrics.roc_curve import RocCurve as RocCurve
from difana.metrics.roc_curve import roc_curve as roc_curve
from difana.metrics.separation import separation as separation
from difana.metrics.significance import asimov_significance as asimov_significance

__all__ = [
    "RocCurve",
    "asimov_significance",
    "background_rejection",
    "calibration_error",
    "relative_bias",
    "roc_auc",
    "roc_curve",
    "separation",
]
