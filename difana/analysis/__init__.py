"""Room 8: the configured whole. YAML to pipeline to result folder."""

from difana.analysis._tables import config_schema as config_schema
from difana.analysis.config import AnalysisConfig as AnalysisConfig
from difana.analysis.inference import Inference as Inference
from difana.analysis.load import Loaded as Loaded
from difana.analysis.load import load as load
from difana.analysis.optimise import Optimised as Optimised
from difana.analysis.optimise import optimise as optimise
from difana.analysis.options import NetworkOptions as NetworkOptions
from difana.analysis.options import TrainingOptions as TrainingOptions
from difana.analysis.read import read_config as read_config
from difana.analysis.result import AnalysisResult as AnalysisResult
from difana.analysis.run import run as run

__all__ = [
    "AnalysisConfig",
    "AnalysisResult",
    "Inference",
    "Loaded",
    "NetworkOptions",
    "Optimised",
    "TrainingOptions",
    "config_schema",
    "load",
    "optimise",
    "read_config",
    "run",
]
