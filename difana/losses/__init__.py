"""Room 6: one number to minimise. Each loss is ``loss(net, batch, step, ...) -> (scalar, aux)``."""

from difana.losses.classify.adversarial import (
    Pivot,
    adversarial,
    adversary_outputs,
    mixture_nll,
    squared_error,
)
from difana.losses.classify.attacks import attacked
from difana.losses.classify.augmented import augmented
from difana.losses.classify.aware import aware
from difana.losses.classify.class_entropy import class_entropy
from difana.losses.classify.cross_entropy import cross_entropy
from difana.losses.classify.efficient_score import ScorePlan, efficient_score
from difana.losses.classify.multiclass import multiclass_entropy
from difana.losses.classify.multitask import log_cosh, multitask_entropy, pinball
from difana.losses.classify.parametrised import parametrised
from difana.losses.classify.random_nuisances import (
    VariedEvents,
    at_random_nuisances,
    nuisance_names,
)
from difana.losses.constraints.constraints import (
    abcd_non_closure,
    background_events,
    closure,
    minimum_background,
    nuisance_width,
    postfit_widths,
    relative_difference,
)
from difana.losses.constraints.mdmm import (
    Constrained,
    Constraint,
    constrained,
    lagrangian,
    with_multipliers,
)
from difana.losses.constraints.minimum_events import minimum_events
from difana.losses.gradient_reversal import reverse_gradient
from difana.losses.objectives._model import ModelOptions, model_of
from difana.losses.objectives.discovery import discovery
from difana.losses.objectives.expected_cls import expected_cls
from difana.losses.objectives.expected_limit import expected_limit
from difana.losses.objectives.full_sample import accumulated, full_sample_sums
from difana.losses.objectives.generalised_variance import (
    asimov_covariance,
    generalised_variance,
)
from difana.losses.objectives.inferno import inferno
from difana.losses.objectives.objective import OBJECTIVES, Objective, objective, objective_named
from difana.losses.objectives.poi_uncertainty import poi_uncertainty
from difana.losses.objectives.running_templates import RunningSums, running_sums
from difana.losses.objectives.signal_grid import (
    grid_limits,
    signal_grid,
    stack_points,
    stacked_models,
)
from difana.losses.objectives.signal_injection import signal_injection
from difana.losses.step import Step
from difana.losses.weighted_sum import weighted_sum

__all__ = [
    "OBJECTIVES",
    "Constrained",
    "Constraint",
    "ModelOptions",
    "Objective",
    "Pivot",
    "RunningSums",
    "ScorePlan",
    "Step",
    "VariedEvents",
    "abcd_non_closure",
    "accumulated",
    "adversarial",
    "adversary_outputs",
    "asimov_covariance",
    "at_random_nuisances",
    "attacked",
    "augmented",
    "aware",
    "background_events",
    "class_entropy",
    "closure",
    "constrained",
    "cross_entropy",
    "discovery",
    "efficient_score",
    "expected_cls",
    "expected_limit",
    "full_sample_sums",
    "generalised_variance",
    "grid_limits",
    "inferno",
    "lagrangian",
    "log_cosh",
    "minimum_background",
    "minimum_events",
    "mixture_nll",
    "model_of",
    "multiclass_entropy",
    "multitask_entropy",
    "nuisance_names",
    "nuisance_width",
    "objective",
    "objective_named",
    "parametrised",
    "pinball",
    "poi_uncertainty",
    "postfit_widths",
    "relative_difference",
    "reverse_gradient",
    "running_sums",
    "signal_grid",
    "signal_injection",
    "squared_error",
    "stack_points",
    "stacked_models",
    "weighted_sum",
    "with_multipliers",
]
