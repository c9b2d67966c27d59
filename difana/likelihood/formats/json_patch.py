"""JSON patches: RFC 6902 on plain data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difana._errors import ModelError, nearest
from difana.likelihood.formats._json import load

Operations = Sequence[Mapping[str, Any]]

_NEEDS = {
    "add": ("value",),
    "replace": ("value",),
    "test": ("value",),
    "remove": (),
    "move": ("from",),
    "copy": ("from",),
}


class _Lost(Exception):
    """A pointer that points nowhere."""


def _steps(pointer: Any) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise _Lost("a path starts with '/'")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _index(container: list[Any], step: str, size: int) -> int:
    if not step.isascii() or not step.isdigit() or (step != "0" and step.startswith("0")):
        raise _Lost(f"'{step}' is no position in a list")
    if len(step) > 9 or int(step) >= size:
        raise _Lost(f"position {step[:20]} is beyond a list of {len(container)}")
    return int(step)


def _key(container: Any, step: str) -> Any:
    if isinstance(container, list):
        return _index(container, step, len(container))
    if isinstance(container, dict):
        if step not in container:
            raise _Lost(f"there is no '{step}'.{nearest(step, container)}")
        return step
    raise _Lost(f"'{step}' is asked of a {type(container).__name__}, which has no parts")


class _Document:
    """A document that copies each list or object when it is changed, and only then."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.own: dict[int, Any] = {}  # keeps what it names alive, so that ids stay unique

    def _copy(self, container: Any) -> Any:
        if id(container) in self.own:
            return container
        if isinstance(container, Mapping):
            container = dict(container)
        elif isinstance(container, (list, tuple)):
            container = list(container)
        self.own[id(container)] = container
        return container

    def get(self, pointer: Any) -> Any:
        found = self.root
        for step in _steps(pointer):
            found = found[_key(found, step)]
        return found

    def parent(self, steps: Sequence[str]) -> Any:
        """Return the container of the last step, free to be changed."""
        self.root = found = self._copy(self.root)
        for step in steps[:-1]:
            key = _key(found, step)
            found[key] = found = self._copy(found[key])
        return found

    def add(self, pointer: Any, value: Any) -> None:
        steps = _steps(pointer)
        if not steps:
            self.root = value
            return
        parent = self.parent(steps)
        if isinstance(parent, list):
            at = len(parent) if steps[-1] == "-" else _index(parent, steps[-1], len(parent) + 1)
            parent.insert(at, value)
        elif isinstance(parent, dict):
            parent[steps[-1]] = value
        else:
            _key(parent, steps[-1])

    def remove(self, pointer: Any) -> Any:
        steps = _steps(pointer)
        if not steps:
            raise _Lost("the whole document cannot be removed")
        parent = self.parent(steps)
        return parent.pop(_key(parent, steps[-1]))

    def replace(self, pointer: Any, value: Any) -> None:
        steps = _steps(pointer)
        if steps:
            parent = self.parent(steps)
            parent[_key(parent, steps[-1])] = value
        else:
            self.root = value

    def apply(self, operation: Mapping[str, Any]) -> None:
        kind, path = operation["op"], operation["path"]
        if kind == "add":
            self.add(path, operation["value"])
        elif kind == "replace":
            self.replace(path, operation["value"])
        elif kind == "remove":
            self.remove(path)
        elif kind == "test":
            if not _equal(self.get(path), operation["value"]):
                raise _Lost("the test fails: another value stands there")
        else:
            origin = operation["from"]
            if kind == "copy":
                value = copy.deepcopy(self.get(origin))
            else:
                if (path + "/").startswith(origin + "/") and path != origin:
                    raise _Lost("nothing can be moved into itself")
                value = self.remove(origin)
            self.add(path, value)


def _equal(a: Any, b: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b


def apply_patch(spec: Any, operations: Operations | Mapping[str, Any] | str | Path) -> Any:
    """Return a document with a JSON patch applied; the document itself is not changed.

    Only what changes is copied, the rest is shared with the original.

    Args:
        spec: The document, such as a workspace.
        operations: A list of operations, one point of a patch set, or the path of either.

    Raises:
        ModelError: Names the operation that is malformed or points nowhere.

    References:
        RFC 6902 (JSON Patch), RFC 6901 (JSON Pointer).

    Example:
        >>> apply_patch({"a": [1, 2]}, [{"op": "add", "path": "/a/-", "value": 3}])
        {'a': [1, 2, 3]}
    """
    operations = load(operations, what="JSON patch", lists=True)
    if isinstance(operations, Mapping):
        operations = operations.get("patch", operations)
    if not isinstance(operations, (list, tuple)):
        raise ModelError("not a JSON patch: expected a list of operations")
    document = _Document(spec)
    for i, operation in enumerate(operations):
        place = f"patch operation {i}"
        if not isinstance(operation, Mapping):
            raise ModelError(f"{place}: expected an object, not a {type(operation).__name__}")
        kind = operation.get("op")
        if not isinstance(kind, str) or kind not in _NEEDS:
            raise ModelError(f"{place}: no operation {kind!r}; there are {', '.join(_NEEDS)}")
        for key in ("path", *_NEEDS[kind]):
            if key not in operation:
                raise ModelError(f"{place} ({kind}): the key '{key}' is missing")
        try:
            document.apply(operation)
        except (_Lost, TypeError, AttributeError) as error:
            raise ModelError(f"{place} ({kind} {operation['path']}): {error}") from None
    return document.root
