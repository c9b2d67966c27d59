"""The training loop: steps, early stopping, checkpoints, history, devices."""

from difana.losses.step import Step as Step
from difana.train._options import LoopOptions as LoopOptions
from difana.train.average import Average as Average
from difana.train.checkpoint import Checkpoints as Checkpoints
from difana.train.checkpoint import Restored as Restored
from difana.train.compiled import CompiledResult as CompiledResult
from difana.train.compiled import ReplicaRows as ReplicaRows
from difana.train.compiled import compiled as compiled
from difana.train.diagnose import diagnose as diagnose
from difana.train.ensemble import EnsembleResult as EnsembleResult
from difana.train.ensemble import fit_ensemble as fit_ensemble
from difana.train.fit import fit as fit
from difana.train.history import JSONLLogger as JSONLLogger
from difana.train.history import Logger as Logger
from difana.train.history import read_history as read_history
from difana.train.mesh import pad_batch as pad_batch
from difana.train.mesh import shard_batch as shard_batch
from difana.train.minimise import minimise as minimise
from difana.train.result import AbstractOneTraining as AbstractOneTraining
from difana.train.result import AbstractTraining as AbstractTraining
from difana.train.result import TrainResult as TrainResult
from difana.train.rows import RowSampler as RowSampler
from difana.train.rows import Weighted as Weighted
from difana.train.schedules import constant as constant
from difana.train.schedules import cosine as cosine
from difana.train.schedules import geometric as geometric
from difana.train.schedules import linear as linear
from difana.train.schedules import window as window
from difana.train.status import TrainStatus as TrainStatus
from difana.train.step import TrainState as TrainState
from difana.train.step import make_step as make_step
from difana.train.step import start_state as start_state
from difana.train.tagger import fit_tagger as fit_tagger
from difana.train.train_rows import train_rows as train_rows
from difana.train.training import Training as Training
from difana.train.training import usual_batch as usual_batch

__all__ = [
    "AbstractOneTraining",
    "AbstractTraining",
    "Average",
    "Checkpoints",
    "CompiledResult",
    "EnsembleResult",
    "JSONLLogger",
    "Logger",
    "LoopOptions",
    "ReplicaRows",
    "Restored",
    "RowSampler",
    "Step",
    "TrainResult",
    "TrainState",
    "TrainStatus",
    "Training",
    "Weighted",
    "compiled",
    "constant",
    "cosine",
    "diagnose",
    "fit",
    "fit_ensemble",
    "fit_tagger",
    "geometric",
    "linear",
    "make_step",
    "minimise",
    "pad_batch",
    "read_history",
    "shard_batch",
    "start_state",
    "train_rows",
    "usual_batch",
    "window",
]
