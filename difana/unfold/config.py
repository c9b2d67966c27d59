"""The configuration of an unfolding from YAML, checked before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difana._errors import nearest
from difana.analysis._schema import (
    EVENTS,
    EXPRESSION,
    FLAG,
    SEED,
    TEXT,
    TEXTS,
    Field,
    Kind,
    Table,
    WrongError,
    choice,
    integer,
    json_schema,
    number,
    read_mapping,
)
from difana.analysis._tables import EDGES
from difana.analysis._yaml import Problems, load_yaml
from difana.analysis._yaml_values import Node


def _by_name(node: Node) -> dict[str, str]:
    if not isinstance(node.value, dict) or not node.value:
        raise WrongError(f"must map observables to expressions, got {node.kind()}")
    found = {}
    for name, child in node.value.items():
        try:
            found[name] = EXPRESSION.parse(child)
        except WrongError as error:
            raise WrongError(f"'{name}' {error}") from error
    return found


_BY_NAME = Kind(
    _by_name, {"type": "object", "additionalProperties": EXPRESSION.schema, "minProperties": 1}
)
_METHODS = ("OmniFold", "Flow", "Bayes", "Inversion", "Likelihood")

GENERAL: Table = (
    Field("Method", choice(*_METHODS), "how to unfold", default="OmniFold"),
    Field(
        "Seed",
        SEED,
        "seed of networks, batches and replicas",
        default=0,
    ),
    Field("InputPath", TEXT, "folder of all Files; relative to this file"),
    Field("Tree", TEXT, "tree of all ROOT files (group of HDF5 files)"),
    Field("Fiducial", TEXT, "the fiducial region in words", default=""),
    Field("Luminosity", TEXT, "integrated luminosity with its unit", default=""),
    Field("Joint", FLAG, "one histogram in all observables (binned methods)", default=False),
)
SIMULATION: Table = (
    Field("Files", TEXTS, "file, glob or list of these", required=True),
    Field("Tree", TEXT, "tree, if not the one of General"),
    Field("PassGen", EXPRESSION, "true for events of the fiducial region", default="1 > 0"),
    Field("PassReco", EXPRESSION, "true for reconstructed events", default="1 > 0"),
    Field("GenWeight", EXPRESSION, "weight at truth level, a yield", default="1"),
    Field("RecoWeight", EXPRESSION, "weight at detector level; GenWeight if left out"),
)
MEASURED: Table = (
    Field("Files", TEXTS, "file, glob or list of these", required=True),
    Field("Tree", TEXT, "tree, if not the one of General"),
    Field("Weight", EXPRESSION, "event weight", default="1"),
    Field("Filter", EXPRESSION, "selection"),
)
OBSERVABLE: Table = (
    Field("Name", TEXT, "name of the observable", required=True),
    Field("Gen", EXPRESSION, "its truth level", required=True),
    Field("Reco", EXPRESSION, "its detector level", required=True),
    Field("Data", EXPRESSION, "its detector level in data and background, if not Reco"),
    Field("Unit", TEXT, "its unit", default=""),
    Field("Edges", EDGES, "bin edges at truth level", required=True),
    Field("RecoEdges", EDGES, "bin edges at detector level; Edges if left out"),
)
SYSTEMATIC: Table = (
    Field("Name", TEXT, "name of the systematic", required=True),
    Field("GenWeight", EXPRESSION, "weight at truth level at +1; nominal if left out"),
    Field("RecoWeight", EXPRESSION, "weight at detector level at +1; nominal if left out"),
    Field("PassReco", EXPRESSION, "true for reconstructed events at +1; nominal if left out"),
    Field("Reco", _BY_NAME, "detector level at +1 of the observables that move, by name",
          default=()),
)  # fmt: skip
OPTIONS: Table = (
    Field("Iterations", integer(1, 10_000), "number of iterations (OmniFold, Flow, Bayes)",
          default=4),
    Field("Strength", number(least=0.0), "of the penalty (Inversion, Likelihood)", default=0.0),
    Field("Order", integer(0, 10, "bins have no such difference"),
          "what the penalty holds small: 0 size, 1 slope, 2 curvature",
          default=2),
    Field("Seeds", integer(1, 10_000), "initialisations (OmniFold)", default=1),
    Field("Bootstraps", integer(0, 100_000), "bootstrap replicas (OmniFold, Flow)", default=20),
    Field("Samples", integer(1, 100_000), "draws of each measured event (Flow)", default=10),
    Field("Epochs", integer(1, 1_000_000),
          "largest number of epochs of a training; left out: by the method"),
    Field("BatchSize", EVENTS, "events a step; left out: by the method and the sample"),
    Field("LearningRate", number(above=0.0), "that of Adam; left out: by the method"),
    Field("PositiveWeights", FLAG, "learn positive weights of the simulation first",
          default=False),
)  # fmt: skip
_MOST_CELLS = 25_000_000
_SECTIONS = ("General", "Simulation", "Data", "Background", "Observables", "Systematics", "Options")
_REQUIRED = ("Simulation", "Data", "Observables")


@dataclasses.dataclass(frozen=True)
class UnfoldingConfig:
    """A checked configuration of an unfolding; see ``unfolding_schema`` for every key.

    Attributes:
        path: The file.
        general: Section General by key.
        simulation: Section Simulation.
        data: Section Data.
        background: Section Background; None without.
        observables: Entries of Observables.
        systematics: Entries of Systematics.
        options: Section Options.
        echo: The file as plain values, for the record.
    """

    path: Path
    general: Mapping[str, Any]
    simulation: Mapping[str, Any]
    data: Mapping[str, Any]
    background: Mapping[str, Any] | None
    observables: tuple[Mapping[str, Any], ...]
    systematics: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Any]
    echo: Mapping[str, Any]


def read_unfolding(path: str | Path) -> UnfoldingConfig:
    """Read and check the configuration of an unfolding; nothing else is opened.

    Args:
        path: The YAML file; ``unfolding_schema`` describes it.

    Returns:
        The configuration.

    Raises:
        ConfigError: Lists all problems with file, line, key and the nearest known key.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "unfold.yaml")
        ...     _ = path.write_text('''
        ... General: {Method: Bayes}
        ... Simulation: {Files: mc.root, PassReco: reco_pt > 0}
        ... Data: {Files: data.root}
        ... Observables:
        ...   - {Name: pt, Gen: gen_pt, Reco: reco_pt, Unit: GeV, Edges: [20, 50, 100]}
        ... ''')
        ...     config = read_unfolding(path)
        >>> config.options["Iterations"], config.observables[0]["Unit"]
        (4, 'GeV')
    """
    path = Path(path)
    root = load_yaml(path)
    problems = Problems(str(path))
    for name, child in root.value.items():
        if name not in _SECTIONS:
            hint = nearest(name, _SECTIONS)
            problems.add(child.line, f"unknown section '{name}'.{hint}")
    for name in _REQUIRED:
        if name not in root.value:
            problems.add(1, f"missing section '{name}'")

    def section(name: str, table: Table) -> dict[str, Any]:
        node = root.value.get(name) or Node({}, 1, name)
        node = dataclasses.replace(node, value={}) if node.value is None else node
        if name in _REQUIRED and name not in root.value:
            return {}
        return read_mapping(node, table, problems, where=name)

    config = UnfoldingConfig(
        path=path,
        general=section("General", GENERAL),
        simulation=section("Simulation", SIMULATION),
        data=section("Data", MEASURED),
        background=section("Background", MEASURED) if "Background" in root.value else None,
        observables=_entries(root, "Observables", OBSERVABLE, problems),
        systematics=_entries(root, "Systematics", SYSTEMATIC, problems),
        options=section("Options", OPTIONS),
        echo=root.plain(),
    )
    if "Observables" in root.value and not config.observables:
        problems.add(root.value["Observables"].line, "Observables is empty: give at least one")
    _check_references(config, root, problems)
    problems.raise_if_any()
    return config


def _check_references(config: UnfoldingConfig, root: Node, problems: Problems) -> None:
    """Note what does not fit together; what could not be read is left out."""
    names = [entry["Name"] for entry in config.observables if entry["Name"] is not None]
    lines = [child.line for child in root.value["Systematics"].value] if config.systematics else []
    for entry, line in zip(config.systematics, lines, strict=True):
        where = f"systematic '{entry['Name']}'"
        if not any(entry[key] for key in ("GenWeight", "RecoWeight", "PassReco", "Reco")):
            text = f"{where} changes nothing: give GenWeight, RecoWeight, PassReco or Reco"
            problems.add(line, text)
        for name in entry["Reco"]:
            if name not in names:
                hint = nearest(name, names)
                problems.add(line, f"{where} moves the unknown observable '{name}'.{hint}")
    sizes = {"gen": 1, "reco": 1}
    listed = root.value["Observables"].value if config.observables else []
    for entry, child in zip(config.observables, listed, strict=True):
        if entry["Edges"] is None:
            continue
        own = {"gen": len(entry["Edges"]), "reco": len(entry["RecoEdges"] or entry["Edges"])}
        joint = config.general["Joint"]
        sizes = {side: own[side] * (sizes[side] if joint else 1) for side in own}
        if sizes["gen"] * sizes["reco"] > _MOST_CELLS or sizes["gen"] ** 2 > _MOST_CELLS:
            text = f"the response would have {sizes['gen']} x {sizes['reco']} cells, too many for"
            problems.add(child.line, f"{text} the memory: ask for fewer bins")
            break


def unfolding_schema() -> dict[str, Any]:
    """Return the JSON schema of an unfolding file, for editors.

    Example:
        >>> unfolding_schema()["required"]
        ['Simulation', 'Data', 'Observables']
    """
    listed = {"Observables": OBSERVABLE, "Systematics": SYSTEMATIC}
    plain = {"General": GENERAL, "Simulation": SIMULATION, "Data": MEASURED,
             "Background": MEASURED, "Options": OPTIONS}  # fmt: skip
    properties: dict[str, Any] = {name: json_schema(table) for name, table in plain.items()}
    for name, table in listed.items():
        properties[name] = {"type": "array", "items": json_schema(table)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "difana unfolding",
        "type": "object",
        "properties": properties,
        "required": list(_REQUIRED),
        "additionalProperties": False,
    }


def _entries(
    root: Node, section: str, table: Table, problems: Problems
) -> tuple[Mapping[str, Any], ...]:
    """Return the entries of a list, their names checked to differ."""
    node = root.value.get(section)
    if node is None or node.value is None:
        return ()
    if not isinstance(node.value, list):
        text = f"{section} must be a list of entries, each after a '-'; got {node.kind()}"
        problems.add(node.line, text)
        return ()
    found, names = [], set()
    for child in node.value:
        entry = read_mapping(child, table, problems, where=child.path)
        if entry["Name"] is not None and entry["Name"] in names:
            problems.add(child.line, f"{section} has two entries '{entry['Name']}'")
        names.add(entry["Name"])
        found.append(entry)
    return tuple(found)
