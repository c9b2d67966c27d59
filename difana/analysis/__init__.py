"""Room 8: the configured whole. YAML to pipeline to result folder."""

from difana.analysis.apply import apply as apply
from difana.analysis.baselines import Baseline as Baseline
from difana.analysis.baselines import train_adversarial as train_adversarial
from difana.analysis.baselines import train_augmented as train_augmented
from difana.analysis.baselines import train_aware as train_aware
from difana.analysis.baselines import train_cross_entropy as train_cross_entropy
from difana.analysis.baselines import train_parametrised as train_parametrised
from difana.analysis.best_bins import BestBins as BestBins
from difana.analysis.best_bins import best_bins as best_bins
from difana.analysis.candidates import Candidate as Candidate
from difana.analysis.candidates import Observable as Observable
from difana.analysis.check import Checked as Checked
from difana.analysis.check import check as check
from difana.analysis.config import AnalysisConfig as AnalysisConfig
from difana.analysis.coverage import CoverageResult as CoverageResult
from difana.analysis.coverage import coverage as coverage
from difana.analysis.efficient_score import EfficientScore as EfficientScore
from difana.analysis.efficient_score import efficient_score_of as efficient_score_of
from difana.analysis.evaluate_from import evaluate_from as evaluate_from
from difana.analysis.fit_efficient_score import EfficientScoreResult as EfficientScoreResult
from difana.analysis.fit_efficient_score import fit_efficient_score as fit_efficient_score
from difana.analysis.gradient_importance import gradient_importance as gradient_importance
from difana.analysis.gradient_importance import stretch_importance as stretch_importance
from difana.analysis.grid import train_on_grid as train_on_grid
from difana.analysis.grid_options import GridConfig as GridConfig
from difana.analysis.grid_options import PointConfig as PointConfig
from difana.analysis.grid_result import GridResult as GridResult
from difana.analysis.hepdata import Table as Table
from difana.analysis.hepdata import Uncertainty as Uncertainty
from difana.analysis.hepdata import Variable as Variable
from difana.analysis.hepdata import write_hepdata as write_hepdata
from difana.analysis.importance import Importance as Importance
from difana.analysis.importance import importance as importance
from difana.analysis.load import Loaded as Loaded
from difana.analysis.load import load as load
from difana.analysis.network import new_network as new_network
from difana.analysis.nuisance_scan import NuisanceScan as NuisanceScan
from difana.analysis.nuisance_scan import nuisance_scan as nuisance_scan
from difana.analysis.nuisance_scan import refined_scan as refined_scan
from difana.analysis.nuisance_scan import samples_at as samples_at
from difana.analysis.number_of_bins import BinCurve as BinCurve
from difana.analysis.number_of_bins import number_of_bins as number_of_bins
from difana.analysis.observable_of import TrainedObservable as TrainedObservable
from difana.analysis.observable_of import observable_of as observable_of
from difana.analysis.observable_of import observables_of as observables_of
from difana.analysis.optimise import optimise as optimise
from difana.analysis.optimise import optimise_regions as optimise_regions
from difana.analysis.optimised import Optimised as Optimised
from difana.analysis.options import ConstraintOptions as ConstraintOptions
from difana.analysis.options import NetworkOptions as NetworkOptions
from difana.analysis.options import TrainingOptions as TrainingOptions
from difana.analysis.pretrain import pretrain as pretrain
from difana.analysis.pretrain import pretraining as pretraining
from difana.analysis.profiled_interval import ScanInterval as ScanInterval
from difana.analysis.profiled_interval import profiled_interval as profiled_interval
from difana.analysis.profiles import Profile as Profile
from difana.analysis.profiles import observable_profiles as observable_profiles
from difana.analysis.publish import hepdata_tables as hepdata_tables
from difana.analysis.question import log_objective as log_objective
from difana.analysis.read import config_schema as config_schema
from difana.analysis.read import read_config as read_config
from difana.analysis.reading import Reading as Reading
from difana.analysis.reading import reading as reading
from difana.analysis.region_events import RegionEvents as RegionEvents
from difana.analysis.result import AnalysisResult as AnalysisResult
from difana.analysis.run import run as run
from difana.analysis.shuffle_importance import shuffle_importance as shuffle_importance
from difana.analysis.tagging import (
    TaggerOptions,
    apply_tagger,
    evaluate_tagger,
    load_tagger,
    train_tagger,
)
from difana.analysis.templates import ObservedSample as ObservedSample
from difana.analysis.templates import Values as Values
from difana.analysis.templates import observe as observe
from difana.analysis.trees import BoostedTrees as BoostedTrees
from difana.analysis.trees import train_trees as train_trees
from difana.analysis.unrolled import Unrolled as Unrolled

__all__ = [
    "AnalysisConfig",
    "AnalysisResult",
    "Baseline",
    "BestBins",
    "BinCurve",
    "BoostedTrees",
    "Candidate",
    "Checked",
    "ConstraintOptions",
    "CoverageResult",
    "EfficientScore",
    "EfficientScoreResult",
    "GridConfig",
    "GridResult",
    "Importance",
    "Loaded",
    "NetworkOptions",
    "NuisanceScan",
    "Observable",
    "ObservedSample",
    "Optimised",
    "PointConfig",
    "Profile",
    "Reading",
    "RegionEvents",
    "ScanInterval",
    "Table",
    "TaggerOptions",
    "TrainedObservable",
    "TrainingOptions",
    "Uncertainty",
    "Unrolled",
    "Values",
    "Variable",
    "apply",
    "apply_tagger",
    "best_bins",
    "check",
    "config_schema",
    "coverage",
    "efficient_score_of",
    "evaluate_from",
    "evaluate_tagger",
    "fit_efficient_score",
    "gradient_importance",
    "hepdata_tables",
    "importance",
    "load",
    "load_tagger",
    "log_objective",
    "new_network",
    "nuisance_scan",
    "number_of_bins",
    "observable_of",
    "observable_profiles",
    "observables_of",
    "observe",
    "optimise",
    "optimise_regions",
    "pretrain",
    "pretraining",
    "profiled_interval",
    "read_config",
    "reading",
    "refined_scan",
    "run",
    "samples_at",
    "shuffle_importance",
    "stretch_importance",
    "train_adversarial",
    "train_augmented",
    "train_aware",
    "train_cross_entropy",
    "train_on_grid",
    "train_parametrised",
    "train_tagger",
    "train_trees",
    "write_hepdata",
]
