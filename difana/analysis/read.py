"""The configuration of an analysis from YAML, checked before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difana._errors import nearest
from difana.analysis import _tables
from difana.analysis._checks import check_references
from difana.analysis._schema import EXPRESSION, Table, WrongError, read_mapping
from difana.analysis._yaml import Problems, load_yaml
from difana.analysis._yaml_values import Node
from difana.analysis.config import (
    AnalysisConfig,
    GeneralConfig,
    NormFactorConfig,
    RegionConfig,
    SampleConfig,
    Side,
    SystematicConfig,
)
from difana.analysis.options import ConstraintOptions, NetworkOptions, TrainingOptions


def read_config(path: str | Path) -> AnalysisConfig:
    """Read and check the configuration of an analysis.

    Nothing but the file itself is opened. All problems found are listed together.

    Args:
        path: The YAML file; `config_schema` describes it.

    Returns:
        The configuration.

    Raises:
        ConfigError: Names the file, line and key at fault and the nearest known key.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "analysis.yaml")
        ...     _ = path.write_text('''
        ... Features: [mass]
        ... Regions: [{Name: SR, Filter: mass > 60}]
        ... Samples:
        ...   - {Name: signal, Files: s.root, Signal: true}
        ...   - {Name: background, Files: b.root, Weight: weight}
        ... ''')
        ...     config = read_config(path)
        >>> config.trained.name, config.factors_of("signal")
        ('SR', ('mu',))
    """
    path = Path(path)
    root = load_yaml(path)
    problems = Problems(str(path))
    for name, child in root.value.items():
        if name not in _tables.SECTIONS:
            hint = nearest(name, _tables.SECTIONS)
            problems.add(child.line, f"unknown section '{name}'.{hint}")
    for name in _tables.REQUIRED:
        if name not in root.value:
            problems.add(1, f"missing section '{name}'")
    reader = _Reader(root, problems)
    config = AnalysisConfig(
        path=path,
        general=GeneralConfig(**reader.mapping("General", _tables.GENERAL)),
        features=reader.features(),
        regions=reader.listed("Regions", _tables.REGION, RegionConfig),
        samples=reader.listed("Samples", _tables.SAMPLE, SampleConfig),
        systematics=reader.systematics(),
        normfactors=reader.listed("NormFactors", _tables.NORMFACTOR, NormFactorConfig),
        network=NetworkOptions(**reader.mapping("Network", _tables.NETWORK)),
        training=reader.training(),
        echo=root.plain(),
    )
    if not problems:  # references to entries that could not be read would only confuse
        config = check_references(config, reader.lines, problems)
    problems.raise_if_any()
    return dataclasses.replace(
        config, training=dataclasses.replace(config.training, seed=config.general.seed)
    )


class _Reader:
    """Reads the sections and remembers in which line each entry stands."""

    def __init__(self, root: Node, problems: Problems) -> None:
        self.root = root
        self.problems = problems
        self.lines: dict[tuple[str, str], int] = {}

    def mapping(self, section: str, table: Table, *, apart: Sequence[str] = ()) -> dict[str, Any]:
        """Return the values of a section by attribute name; keys ``apart`` are read elsewhere."""
        node = self.root.value.get(section) or Node({}, 1, section)
        if node.value is None:  # an empty section
            node = dataclasses.replace(node, value={})
        if isinstance(node.value, dict):
            kept = {key: child for key, child in node.value.items() if key not in apart}
            node = dataclasses.replace(node, value=kept)
        hints = {"Seed": "It stands in General."} if section == "Training" else {}
        values = read_mapping(node, table, self.problems, where=section, hints=hints)
        if isinstance(node.value, dict):
            self.lines |= {(section, key): child.line for key, child in node.value.items()}
        return {_attribute(key): value for key, value in values.items()}

    def training(self) -> TrainingOptions:
        """Return the options of the training, with the conditions on its result."""
        constraints = ConstraintOptions()
        node = self.root.value.get("Training")
        if node is not None and isinstance(node.value, dict) and "Constraints" in node.value:
            child = node.value["Constraints"]
            values = read_mapping(
                child, _tables.CONSTRAINTS, self.problems, where="Training.Constraints"
            )
            named = {_attribute(key): value for key, value in values.items()}
            constraints = ConstraintOptions(**named)
            if isinstance(child.value, dict):
                self.lines |= {("Constraints", key): c.line for key, c in child.value.items()}
                if not child.value:
                    self.problems.add(child.line, "Training.Constraints asks for nothing")
        values = self.mapping("Training", _tables.TRAINING, apart=("Constraints",))
        return TrainingOptions(**values, constraints=constraints)

    def entries(self, section: str) -> list[Node]:
        """Return the nodes of a list of entries with unique names."""
        node = self.root.value.get(section)
        if node is None or node.value is None:
            return []
        if not isinstance(node.value, list):
            what = f"{section} must be a list of entries, each after a '-'"
            self.problems.add(node.line, f"{what}; got {node.kind()}")
            return []
        for child in node.value:
            name = child.value.get("Name") if isinstance(child.value, dict) else None
            if name is None or not isinstance(name.value, str):
                continue
            if (section, name.value) in self.lines:
                first = self.lines[section, name.value]
                text = f"{section} has two entries '{name.value}', the first in line {first}"
                self.problems.add(child.line, text)
            self.lines.setdefault((section, name.value), child.line)
        return node.value

    def listed(self, section: str, table: Table, entry: type) -> tuple[Any, ...]:
        """Return the entries of a section."""
        found = []
        for node in self.entries(section):
            values = read_mapping(node, table, self.problems, where=node.path)
            named = {_attribute(key): value for key, value in values.items()}
            found.append(entry(**named, where=self._where(node)))
        return tuple(found)

    def systematics(self) -> tuple[SystematicConfig, ...]:
        """Return the systematics: which keys they have depends on their type."""
        found = []
        for node in self.entries("Systematics"):
            parts = {}
            rest = node
            if isinstance(node.value, dict):
                special = ("Up", "Down", "Transform")
                parts = {key: node.value[key] for key in special if key in node.value}
                kept = {key: child for key, child in node.value.items() if key not in parts}
                rest = dataclasses.replace(node, value=kept)
            values = read_mapping(rest, _tables.SYSTEMATIC, self.problems, where=node.path)
            symmetrize = values.pop("Symmetrize")
            named = {_attribute(key): value for key, value in values.items()}
            named["modifier_name"] = named["modifier_name"] or named["name"]
            sides: dict[str, Any] = {"up": None, "down": None, "transform": ()}
            if named["type"] == "Transform":
                sides["transform"] = self._transform(node, parts)
            elif named["type"] is not None:
                sides |= self._sides(node, parts, named["type"], symmetrize=symmetrize)
            found.append(SystematicConfig(**named, **sides, where=self._where(node)))
        return tuple(found)

    def _where(self, node: Node) -> str:
        return f"{self.problems.file}:{node.line}"

    def _sides(
        self, node: Node, parts: Mapping[str, Node], kind: str, *, symmetrize: bool
    ) -> dict[str, Side]:
        if "Transform" in parts:
            text = f"'Transform' in {node.path} needs 'Type: Transform', but the type is {kind}"
            self.problems.add(parts["Transform"].line, text)
        sides = {}
        for name in ("Up", "Down"):
            if name in parts:
                where = f"{node.path}.{name} (Type {kind})"
                values = read_mapping(parts[name], _tables.SIDES[kind], self.problems, where=where)
                named = {_attribute(key): value for key, value in values.items() if value}
                sides[name.lower()] = Side(**named)
            elif name == "Up" or not symmetrize:
                remedy = "" if name == "Up" else ", or 'Symmetrize: true' to mirror 'Up'"
                label = node.value.get("Name")
                shown = f" '{label.value}'" if label is not None else ""
                text = f"systematic{shown} has no side '{name}': give it{remedy}"
                self.problems.add(node.line, text)
        return sides

    def _transform(self, node: Node, parts: Mapping[str, Node]) -> tuple[tuple[str, str], ...]:
        for name in ("Up", "Down"):
            if name in parts:
                text = f"'{name}' in {node.path}: a Transform has no sides, alpha is in its formula"
                self.problems.add(parts[name].line, text)
        if "Transform" not in parts:
            text = f"missing key 'Transform' in {node.path}: formulas by feature"
            self.problems.add(node.line, text)
            return ()
        return self._expressions(parts["Transform"])

    def features(self) -> tuple[tuple[str, str], ...]:
        """Return name and expression of each feature."""
        node = self.root.value.get("Features")
        if node is None:
            return ()
        if isinstance(node.value, list):
            children = {str(child.value): child for child in node.value}
            if len(children) < len(node.value):
                self.problems.add(node.line, "Features names a branch twice")
            node = dataclasses.replace(node, value=children)
        return self._expressions(node)

    def _expressions(self, node: Node) -> tuple[tuple[str, str], ...]:
        if not isinstance(node.value, dict) or not node.value:
            text = f"{node.path} must map names to expressions; got {node.kind()}"
            self.problems.add(node.line, text if node.value else f"{node.path} is empty")
            return ()
        found = []
        for name, child in node.value.items():
            try:
                found.append((name, EXPRESSION.parse(child)))
            except WrongError as error:
                self.problems.add(child.line, f"{child.path} {error}")
        return tuple(found)


def _attribute(key: str) -> str:
    """Return the attribute of a key.

    Example:
        >>> [_attribute(key) for key in ("StatErrors", "POI", "InputPath")]
        ['stat_errors', 'poi', 'input_path']
    """
    if key.isupper():
        return key.lower()
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in key).lstrip("_")
