"""Events in: the table of events, readers and writers, systematic variations, generated samples."""

from __future__ import annotations

from difana.data._alike import check_inputs
from difana.data.arrays import from_arrays
from difana.data.batches import BatchSampler, draw_batch
from difana.data.convert import ConversionReport, convert
from difana.data.events import Events
from difana.data.expressions import Expression, functions
from difana.data.extend import Chunk, ExtensionReport, extend_file
from difana.data.files import iterate_events, read_events, read_identifiers
from difana.data.folds import Fold, fold_of, split_folds
from difana.data.inputs import Given, Inputs, features_of, joined, moved, with_columns
from difana.data.metadata import read_metadata
from difana.data.probe import Complaint, Probe, Probed
from difana.data.samples import (
    AbstractVariation,
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    Variant,
    WeightVariation,
    is_signal,
    nominal_samples,
    variants,
)
from difana.data.split import event_hash, split, split_parts
from difana.data.transform import transformation
from difana.data.write import to_hdf5, to_parquet, to_root

__all__ = [
    "AbstractVariation",
    "BatchSampler",
    "Chunk",
    "Complaint",
    "ConversionReport",
    "Events",
    "Expression",
    "ExtensionReport",
    "Fold",
    "Given",
    "Inputs",
    "Normalisation",
    "Probe",
    "Probed",
    "Sample",
    "ShiftedEvents",
    "Transformation",
    "Variant",
    "WeightVariation",
    "check_inputs",
    "convert",
    "draw_batch",
    "event_hash",
    "extend_file",
    "features_of",
    "fold_of",
    "from_arrays",
    "functions",
    "is_signal",
    "iterate_events",
    "joined",
    "moved",
    "nominal_samples",
    "read_events",
    "read_identifiers",
    "read_metadata",
    "split",
    "split_folds",
    "split_parts",
    "to_hdf5",
    "to_parquet",
    "to_root",
    "transformation",
    "variants",
    "with_columns",
]
