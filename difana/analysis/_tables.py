"""The keys of every section of an analysis file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difana.analysis._schema import (
    EVENTS,
    EXPRESSION,
    FLAG,
    NUMBER,
    SEED,
    TEXT,
    TEXTS,
    Field,
    Table,
    choice,
    increasing,
    integer,
    json_schema,
    number,
    numbers,
    table_of,
)
from difana.analysis.options import ConstraintOptions, NetworkOptions, TrainingOptions

OBJECTIVES = ("expected_limit", "expected_cls", "discovery", "poi_uncertainty")
ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "silu", "softplus", "tanh")
TYPES = ("Normalization", "Weight", "Files", "Tree", "Transform")


def _sums_to_one(values: tuple[float, ...]) -> bool:
    return all(value > 0 for value in values) and abs(sum(values) - 1) < 1e-6


EDGES = numbers(NUMBER, least=2, rule=" that increase", holds=increasing)
_BOUNDS = numbers(NUMBER, least=2, most=2, rule=" that increase", holds=increasing)
_SPLIT = numbers(NUMBER, least=3, most=3, rule=" above 0 that sum to 1", holds=_sums_to_one)

GENERAL: Table = (
    Field("Measurement", TEXT, "name of the measurement", default="measurement"),
    Field("POI", TEXT, "parameter of interest, one of NormFactors", default="mu"),
    Field(
        "InputPath",
        TEXT,
        "folder of all Files, or a template with {Files} and {Sample}; relative to this file",
    ),
    Field("Tree", TEXT, "tree of all ROOT files (group of HDF5 files)"),
    Field("Luminosity", number(above=0.0), "factor on all simulated weights", default=1.0),
    Field(
        "Seed",
        SEED,
        "seed of the split, the weights and the batches",
        default=0,
    ),
    Field(
        "Split",
        _SPLIT,
        "parts of the events for training, validation and test",
        default=(0.5, 0.25, 0.25),
    ),
    Field(
        "Identifier",
        TEXTS,
        "branches that name an event (run, event number), for the split; the features if left out",
        default=(),
    ),
    Field("StatErrors", FLAG, "include the statistical uncertainty of simulation", default=True),
)

REGION: Table = (
    Field("Name", TEXT, "name of the region", required=True),
    Field("Filter", EXPRESSION, "expression that is true for events of the region"),
    Field("Observable", choice("network"), "the trained network: exactly one region has it"),
    Field("Variable", EXPRESSION, "observable of a fixed region, of branches and feature names"),
    Field("Binning", EDGES, "bin edges of the Variable"),
    Field(
        "Flow",
        choice("drop", "fold"),
        "what becomes of events outside Binning: lost, or put into the edge bins",
        default="drop",
    ),
)

SAMPLE: Table = (
    Field("Name", TEXT, "name of the sample", required=True),
    Field("Files", TEXTS, "file, glob or list of these", default=()),
    Field("Tree", TEXT, "tree, if not the one of General"),
    Field("Weight", EXPRESSION, "event weight", default="1"),
    Field("Filter", EXPRESSION, "further selection"),
    Field("Regions", TEXTS, "regions in which it is expected; all if left out", default=()),
    Field("Signal", FLAG, "whether it is signal", default=False),
    Field("Data", FLAG, "whether it holds observed events", default=False),
)

SYSTEMATIC: Table = (
    Field("Name", TEXT, "name of the systematic", required=True),
    Field("Type", choice(*TYPES), "kind of the systematic", required=True),
    Field("Samples", TEXTS, "affected samples; all simulated ones if left out", default=()),
    Field("Regions", TEXTS, "affected regions; all if left out", default=()),
    Field("ModifierName", TEXT, "name of the nuisance parameter, if not Name"),
    Field("Symmetrize", FLAG, "mirror Up where Down is missing", default=False),
)

SIDES: Mapping[str, Table] = {
    "Normalization": (
        Field(
            "Normalization",
            number(above=-1.0, below=1e6),
            "relative change of the yield, e.g. 0.05",
            required=True,
        ),
    ),
    "Weight": (Field("Weight", EXPRESSION, "event weight on this side", required=True),),
    "Files": (
        Field("Files", TEXTS, "files of this side; {Sample} is replaced", required=True),
        Field("Tree", TEXT, "tree of this side"),
        Field("Weight", EXPRESSION, "event weight on this side, if not that of the sample"),
    ),
    "Tree": (
        Field("Tree", TEXT, "tree of this side", required=True),
        Field("Weight", EXPRESSION, "event weight on this side, if not that of the sample"),
    ),
}

NORMFACTOR: Table = (
    Field("Name", TEXT, "name of the free factor", required=True),
    Field("Samples", TEXTS, "samples it multiplies", required=True),
    Field("Nominal", NUMBER, "starting value", default=1.0),
    Field("Bounds", _BOUNDS, "range in fits", default=(0.0, 10.0)),
)

_WIDTH = integer(1, 100_000, "the weights would not fit into the memory")
NETWORK = table_of(
    NetworkOptions,
    {
        "hidden": numbers(_WIDTH, least=0, most=100, rule=", the widths of the layers"),
        "activation": choice(*ACTIVATIONS),
    },
)

TRAINING = table_of(
    TrainingOptions,
    {
        "objective": choice(*OBJECTIVES),
        "pretrain_batch": EVENTS,
        "batch": EVENTS,
        "search": integer(0, 1_000_000),
        "bins": integer(2, 1000, "each bin needs simulated events of its own"),
        "penalty": number(least=0.0),
        "cross_entropy": number(least=0.0),
        "minimum_events": number(least=0.0),
    },
    without=("seed", "constraints"),
)

CONSTRAINTS = table_of(
    ConstraintOptions,
    {
        "minimum_background": number(above=0.0),
        "nuisance_width": number(above=0.0, below=1.0),
        "nuisances": TEXTS,
        "closure": number(above=0.0),
    },
)

SECTIONS = (
    "General",
    "Features",
    "Regions",
    "Samples",
    "Systematics",
    "NormFactors",
    "Network",
    "Training",
)
REQUIRED = ("Features", "Regions", "Samples")


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of an analysis file, for editors.

    Example:
        >>> schema = config_schema()
        >>> schema["properties"]["Regions"]["items"]["required"]
        ['Name']
    """

    def listed(entry: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": entry}

    systematic = json_schema(SYSTEMATIC)
    for side in ("Up", "Down"):
        systematic["properties"][side] = {
            "anyOf": [json_schema(table) for table in SIDES.values()],
            "description": f"the {side.lower()} variation; its keys depend on Type",
        }
    systematic["properties"]["Transform"] = {
        "type": "object",
        "additionalProperties": EXPRESSION.schema,
        "description": "new value of a feature, an expression of features and alpha",
    }
    training = json_schema(TRAINING)
    training["properties"]["Constraints"] = json_schema(CONSTRAINTS) | {
        "description": "conditions that the trained observable has to obey"
    }
    sections = {
        "General": json_schema(GENERAL),
        "Features": {
            "description": "inputs of the network: branches, or expressions by name",
            "anyOf": [
                {"type": "array", "items": TEXT.schema, "minItems": 1},
                {
                    "type": "object",
                    "additionalProperties": EXPRESSION.schema,
                    "minProperties": 1,
                },
            ],
        },
        "Regions": listed(json_schema(REGION)),
        "Samples": listed(json_schema(SAMPLE)),
        "Systematics": listed(systematic),
        "NormFactors": listed(json_schema(NORMFACTOR)),
        "Network": json_schema(NETWORK),
        "Training": training,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "difana analysis",
        "type": "object",
        "properties": sections,
        "required": list(REQUIRED),
        "additionalProperties": False,
    }
