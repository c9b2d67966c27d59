"""Values with places: every value of a file knows its line and path, every problem is collected."""

from __future__ import annotations

import dataclasses
from typing import Any

from difana._errors import ConfigError

_MOST_PROBLEMS = 30


def shortened(text: str, most: int = 60) -> str:
    """Return a text that fits into a message.

    Example:
        >>> shortened("abcdefgh", 5)
        'abcde...'
    """
    return text if len(text) <= most else f"{text[:most]}..."


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
                return f"'{shortened(self.value)}'"
        return shortened(str(self.value))

    def line_of(self, path: str) -> int:
        """Return the line of a key below, or that of the nearest mapping around it.

        Example:
            >>> Node({"General": Node({"Seed": Node(3, 7, "General.Seed")}, 6, "General")}, 1,
            ...      "").line_of("General.Seed")
            7
        """
        node = self
        for key in path.split("."):
            if not isinstance(node.value, dict) or key not in node.value:
                break
            node = node.value[key]
        return node.line


def node_of(value: Any, path: str = "") -> Node:
    """Return plain values as a node, without lines: what `Node.plain` undoes.

    Example:
        >>> node_of({"Samples": [{"Name": "s"}]}).value["Samples"].value[0].path
        'Samples[0]'
    """
    if isinstance(value, dict):
        inner = {key: node_of(child, f"{path}.{key}".lstrip(".")) for key, child in value.items()}
        return Node(inner, 1, path)
    if isinstance(value, list):
        return Node([node_of(child, f"{path}[{i}]") for i, child in enumerate(value)], 1, path)
    return Node(value, 1, path)


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

    def add(self, line: int | str, text: str) -> None:
        """Note one problem at a line, or at a place such as ``analysis.yaml:3``."""
        if isinstance(line, str):
            line = int(line.rpartition(":")[2])
        self._found.setdefault((line, text))

    def where(self, line: int) -> str:
        """Return a line of the file as a place, ``analysis.yaml:3``."""
        return f"{self.file}:{line}"

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise one error that lists all problems, in the order of the lines.

        Raises:
            ConfigError: If there are any.
        """
        lines = [
            f"{self.where(line)}: {shortened(text, 500)}" for line, text in sorted(self._found)
        ]
        if len(lines) == 1:
            raise ConfigError(lines[0])
        if lines:
            listed = "".join(f"\n  {line}" for line in lines[:_MOST_PROBLEMS])
            if len(lines) > _MOST_PROBLEMS:
                listed += f"\n  ... and {len(lines) - _MOST_PROBLEMS} more"
            raise ConfigError(f"{self.file} has {len(lines)} problems:{listed}")
