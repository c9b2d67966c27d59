"""YAML with places: every value knows its line and its path, every problem is collected."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from difana._errors import ConfigError

_MOST_VALUES = 100_000  # aliases of aliases can make a short file huge
_DEEPEST = 50


@dataclasses.dataclass(frozen=True)
class Node:
    """One value of a YAML file.

    Attributes:
        value: A mapping of names to nodes, a list of nodes, or a plain value.
        line: Line of its key or list mark, from 1.
        path: Where it stands, e.g. ``Samples[1].Weight``.
    """

    value: Any
    line: int
    path: str

    def plain(self) -> Any:
        """Return the value without places, ready for JSON."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def kind(self) -> str:
        """Return what a message calls the value."""
        match self.value:
            case None:
                return "nothing"
            case dict():
                return "a mapping"
            case list():
                return "a list"
            case bool():
                return f"{str(self.value).lower()} (a truth value)"
            case str():
                return f"'{self.value}'"
        return str(self.value)


class Problems:
    """Everything that is wrong with one file.

    Example:
        >>> problems = Problems("analysis.yaml")
        >>> problems.add(3, "missing key 'Name'")
        >>> problems.raise_if_any()
        Traceback (most recent call last):
        difana._errors.ConfigError: analysis.yaml:3: missing key 'Name'
    """

    def __init__(self, file: str) -> None:
        """Start without problems."""
        self.file = file
        self._found: dict[tuple[int, str], None] = {}

    def add(self, line: int, text: str) -> None:
        """Note one problem."""
        self._found.setdefault((line, text))

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise one error that lists all problems, in the order of the lines.

        Raises:
            ConfigError: If there are any.
        """
        lines = [f"{self.file}:{line}: {text}" for line, text in sorted(self._found)]
        if len(lines) == 1:
            raise ConfigError(lines[0])
        if lines:
            listed = "".join(f"\n  {line}" for line in lines)
            raise ConfigError(f"{self.file} has {len(lines)} problems:{listed}")


class _Loader(yaml.SafeLoader):
    """The safe loader, which also takes 1e-3 for a number, as YAML 1.2 does."""


_Loader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_yaml(path: str | Path) -> Node:
    r"""Read one YAML document with the places of its values.

    Raises:
        ConfigError: If the file is missing, no UTF-8 text, no valid YAML, holds a key twice, or is
            no mapping. The message names file and line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.yaml")
        ...     _ = path.write_text("General:\n  Seed: 3\n")
        ...     node = load_yaml(path).value["General"].value["Seed"]
        >>> node.value, node.line, node.path
        (3, 2, 'General.Seed')
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "missing"
        raise ConfigError(f"cannot read the configuration '{path}': it is {what}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read the configuration '{path}': {error.strerror}") from error
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            raise ConfigError(f"{path} is empty")
        problems = Problems(str(path))
        node = _Converter(loader, problems).convert(root, root.start_mark.line + 1, "", ())
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply") from error
    finally:
        loader.dispose()
    if not isinstance(node.value, dict):
        problems.add(node.line, f"expected sections such as 'General:', got {node.kind()}")
    problems.raise_if_any()
    return node


class _Converter:
    """Turns the nodes of PyYAML into ours."""

    def __init__(self, loader: Any, problems: Problems) -> None:
        self.loader = loader
        self.problems = problems
        self.count = 0

    def convert(self, node: Any, line: int, path: str, above: tuple[int, ...]) -> Node:
        self.count += 1
        if id(node) in above or len(above) > _DEEPEST or self.count > _MOST_VALUES:
            what = "contains itself" if id(node) in above else "is too large"
            raise ConfigError(f"{self.problems.file}:{line}: '{path}' {what}")
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return Node(dict(self._entries(node, path, above)), line, path)
        if isinstance(node, yaml.SequenceNode):
            children = [
                self.convert(child, child.start_mark.line + 1, f"{path}[{i}]", above)
                for i, child in enumerate(node.value)
            ]
            return Node(children, line, path)
        value = self._scalar(node, line)
        return Node(value, line, path)

    def _entries(self, node: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, Node]]:
        own = {id(key) for key, _ in node.value}  # keys merged by '<<' may be overridden
        self.loader.flatten_mapping(node)
        seen: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            name = self._scalar(key, line) if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str):
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                self.problems.add(line, f"a key must be text, got {shown}: put it in quotes")
                continue
            if id(key) in own:
                if name in seen:
                    text = f"key '{name}' stands twice, first in line {seen[name]}"
                    self.problems.add(line, text)
                seen.setdefault(name, line)
            yield name, self.convert(child, line, f"{path}.{name}" if path else name, above)

    def _scalar(self, node: Any, line: int) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            reason = getattr(error, "problem", None) or error
            self.problems.add(line, f"cannot read '{node.value}': {reason}")
            return None


def _not_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).split("\n")[0]
    line = "" if mark is None else f":{mark.line + 1}"
    return ConfigError(
        f"{path}{line}: not valid YAML: {reason}. A text that holds ': ' or '#', or starts with "
        "one of {}[]&*!|>'\"%@`, must stand in quotes"
    )
