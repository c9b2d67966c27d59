"""From the nodes of PyYAML to plain values with places; nothing in a file can make them huge."""

from __future__ import annotations

from typing import Any

import yaml

from difana._errors import ConfigError
from difana.config.places import Node, Problems, shortened

_MOST_VALUES = 100_000  # aliases of aliases can make a short file huge
_DEEPEST = 50
_LARGEST = 2**63
_TAG = "tag:yaml.org,2002:"


class Converter:
    """Turns the nodes of PyYAML into ours."""

    def __init__(self, loader: Any, problems: Problems) -> None:
        """Remember what makes values of texts, and who takes the problems."""
        self.loader = loader
        self.problems = problems
        self.count = 0
        self._merged: dict[int, dict[str, tuple[int, Any]]] = {}

    def convert(self, node: Any, line: int, path: str, above: tuple[int, ...]) -> Node:
        """Return the node with all that is below it."""
        above = self._enter(node, line, path, above)
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map", line)
            children = {
                name: self.convert(child, own, f"{path}.{name}" if path else name, above)
                for name, (own, child) in self._entries(node, path, above).items()
            }
            return Node(children, line, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq", line)
            listed = [
                self.convert(child, child.start_mark.line + 1, f"{path}[{i}]", above)
                for i, child in enumerate(node.value)
            ]
            return Node(listed, line, path)
        return Node(self._scalar(node, line), line, path)

    def _enter(self, node: Any, line: int, path: str, above: tuple[int, ...]) -> tuple[int, ...]:
        self.count += 1
        if id(node) in above or len(above) > _DEEPEST or self.count > _MOST_VALUES:
            what = "contains itself" if id(node) in above else "is too large"
            raise ConfigError(f"{self.problems.file}:{line}: '{shortened(path)}' {what}")
        return (*above, id(node))

    def _check_tag(self, node: Any, kind: str, line: int) -> None:
        if node.tag != _TAG + kind:
            self.problems.add(line, f"the tag '{shortened(node.tag)}' has no meaning here")

    def _entries(
        self, node: yaml.MappingNode, path: str, above: tuple[int, ...]
    ) -> dict[str, tuple[int, Any]]:
        """Return line and node by key; what '<<' merges stands behind, and gives way to own keys.

        Each mapping is merged once, by name, so that merges of merges stay small.
        """
        if id(node) in self._merged:
            return self._merged[id(node)]
        found: dict[str, tuple[int, Any]] = {}
        merges = []
        for key, child in node.value:
            line = key.start_mark.line + 1
            if key.tag == _TAG + "merge":
                merges += child.value if isinstance(child, yaml.SequenceNode) else [child]
                continue
            name = self._scalar(key, line) if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str) or not name.strip():
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                text = f"a key must be text, got {shortened(shown) or 'nothing'}: put it in quotes"
                self.problems.add(line, text)
            elif name in found:
                text = f"key '{name}' stands twice, first in line {found[name][0]}"
                self.problems.add(line, text)
            else:
                found[name] = (line, child)
        for other in merges:
            line = other.start_mark.line + 1
            if not isinstance(other, yaml.MappingNode):
                self.problems.add(line, "'<<' merges mappings, here stands something else")
                continue
            for name, entry in self._entries(
                other, path, self._enter(other, line, path, above)
            ).items():
                found.setdefault(name, entry)
        self._merged[id(node)] = found
        return found

    def _scalar(self, node: Any, line: int) -> Any:
        if node.tag == _TAG + "timestamp":
            return node.value
        shown = shortened(node.value)
        try:
            value = self.loader.construct_object(node)
        except Exception as error:  # texts with the tag of a number raise many kinds
            reason = getattr(error, "problem", None) or error
            self.problems.add(line, f"cannot read '{shown}': {shortened(str(reason), 200)}")
            return None
        if isinstance(value, int) and abs(value) >= _LARGEST:
            self.problems.add(line, f"the whole number {shown} is too large")
        elif isinstance(value, str) and (odd := _odd_character(value)):
            self.problems.add(line, f"the character U+{ord(odd):04X} cannot stand in a text")
        elif value is None or isinstance(value, bool | int | float | str):
            return value
        else:
            self.problems.add(line, f"cannot read '{shown}': its tag has no meaning here")
        return None


def _odd_character(text: str) -> str:
    """Return the first control character or half of a character; empty where there is none."""
    for c in text:
        if (ord(c) < 32 and c not in "\t\n\r") or c == "\x7f" or "\ud800" <= c <= "\udfff":
            return c
    return ""
