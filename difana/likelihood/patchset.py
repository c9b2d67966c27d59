"""JSON patches (RFC 6902), and the patch sets that analyses publish their signal grids as."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from difana._errors import ModelError, nearest
from difana.likelihood._json import load
from difana.likelihood._schema import check_workspace

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


def digest(workspace: Mapping[str, Any], *, algorithm: str = "sha256") -> str:
    """Return the digest of a workspace: the one that pyhf computes and patch sets hold.

    Args:
        workspace: The workspace, or any JSON.
        algorithm: An algorithm of :mod:`hashlib`.

    Raises:
        ModelError: If there is no such algorithm, or the workspace is no JSON.

    Example:
        >>> digest({"a": 2.0, "b": 3.0, "c": 1.0}, algorithm="md5")
        '2c0633f242928eb55c3672fed5ba8612'
    """
    if algorithm not in hashlib.algorithms_available:
        near = nearest(algorithm, hashlib.algorithms_available)
        raise ModelError(f"no digest algorithm '{algorithm}'.{near}")
    try:
        text = json.dumps(workspace, sort_keys=True, ensure_ascii=False)
        return hashlib.new(algorithm, text.encode()).hexdigest()
    except (TypeError, ValueError) as error:
        raise ModelError(f"cannot compute the digest: {error}") from error


@dataclasses.dataclass(frozen=True)
class PatchSet:
    """The signal points of an analysis, each a JSON patch of one workspace.

    Attributes:
        names: Name of each point.
        values: Coordinates of each point, one a label.
        labels: What the coordinates are.
        description: What the points are.
        digests: Digests of the workspace that the patches are for, by algorithm.
        patches: Operations of each point.

    Example:
        >>> points = PatchSet(("p",), ((1.0,),), ("m",), "", {}, (
        ...     [{"op": "add", "path": "/version", "value": "1.0.0"}],))
        >>> points.operations((1.0,))[0]["op"]
        'add'
    """

    names: tuple[str, ...]
    values: tuple[tuple[float | str, ...], ...]
    labels: tuple[str, ...]
    description: str
    digests: Mapping[str, str]
    patches: tuple[Operations, ...]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    def index(self, point: str | Sequence[float | str]) -> int:
        """Return the position of a point by its name or its coordinates.

        Raises:
            ModelError: If there is no such point.
        """
        if isinstance(point, str):
            if point in self.names:
                return self.names.index(point)
            raise ModelError(f"no point '{point}' in the patch set.{nearest(point, self.names)}")
        if tuple(point) in self.values:
            return self.values.index(tuple(point))
        raise ModelError(f"no point at {', '.join(self.labels)} = {tuple(point)} in the patch set")

    def operations(self, point: str | Sequence[float | str]) -> Operations:
        """Return the patch of a point."""
        return self.patches[self.index(point)]

    def verify(self, workspace: Mapping[str, Any]) -> None:
        """Check that a workspace is the one that the patches are for.

        Raises:
            ModelError: If a digest differs.
        """
        for algorithm, expected in self.digests.items():
            found = digest(workspace, algorithm=algorithm)
            if found != expected.lower():
                raise ModelError(
                    f"the patch set is for another workspace: its {algorithm} is {expected}, that "
                    f"of this one {found}"
                )

    def apply(
        self,
        workspace: Mapping[str, Any],
        point: str | Sequence[float | str],
        *,
        verify: bool = True,
    ) -> Mapping[str, Any]:
        """Return the workspace of one point.

        Args:
            workspace: The workspace that the patches are for.
            point: Name or coordinates.
            verify: Check the digests before.

        Raises:
            ModelError: If the digests differ, there is no such point, or its patch does not give
                a valid workspace.
        """
        operations = self.operations(point)
        if verify:
            self.verify(workspace)
        return check_workspace(apply_patch(workspace, operations))


def _get(entry: Any, keys: Sequence[str], where: str) -> list[Any]:
    """Return the entries of an object."""
    if not isinstance(entry, Mapping):
        raise ModelError(f"not a valid patch set: {where} is no object")
    for key in keys:
        if key not in entry:
            raise ModelError(f"not a valid patch set: {where} has no '{key}'")
    return [entry[key] for key in keys]


def _strings(entry: Any, where: str) -> tuple[str, ...]:
    if not isinstance(entry, list) or not all(isinstance(label, str) for label in entry):
        raise ModelError(f"not a valid patch set: {where} is no list of strings")
    return tuple(entry)


def read_patchset(source: Mapping[str, Any] | Sequence | str | Path | IO[bytes]) -> PatchSet:
    """Read a patch set (pyhf schema 1.0.0).

    Args:
        source: A mapping, the path of a JSON file (gzipped or not), or a stream of bytes; a list
            of one patch set counts as that one.

    Raises:
        ModelError: Names what is missing, malformed or stands twice.

    Example:
        >>> point = {"metadata": {"name": "p", "values": [1]}, "patch": []}
        >>> meta = {"references": {"hepdata": "ins1234567"}, "labels": ["m"], "description": "",
        ...         "digests": {"md5": "0" * 32}}
        >>> read_patchset({"version": "1.0.0", "metadata": meta, "patches": [point]}).names
        ('p',)
    """
    spec = load(source, what="patch set", lists=True)
    if isinstance(spec, (list, tuple)):
        if len(spec) != 1:
            raise ModelError(f"expected one patch set, found a list of {len(spec)}")
        spec = spec[0]
    metadata, patches, version = _get(spec, ("metadata", "patches", "version"), "the file")
    if version != "1.0.0":
        raise ModelError(f"not a valid patch set: version {version!r}, expected '1.0.0'")
    labels, digests, description = _get(
        metadata, ("labels", "digests", "description"), "its metadata"
    )
    labels = _strings(labels, "'labels'")
    if not isinstance(digests, Mapping) or not all(isinstance(x, str) for x in digests.values()):
        raise ModelError("not a valid patch set: 'digests' is no object of strings")
    if not isinstance(patches, list) or not patches:
        raise ModelError("not a valid patch set: it has no patches")
    names: dict[str, int] = {}
    values: dict[tuple, str] = {}
    for i, entry in enumerate(patches):
        about, operations = _get(entry, ("metadata", "patch"), f"patches[{i}]")
        name, point = _get(about, ("name", "values"), f"patches[{i}]/metadata")
        if not isinstance(name, str) or not isinstance(operations, list):
            raise ModelError(f"not a valid patch set: patches[{i}] needs a name and a list")
        if not isinstance(point, list) or len(point) != len(labels):
            raise ModelError(
                f"not a valid patch set: point '{name}' needs one value for each of {labels}"
            )
        if not all(isinstance(x, (int, float, str)) for x in point):
            raise ModelError(f"not a valid patch set: the values of point '{name}' are no numbers")
        if name in names or tuple(point) in values:
            twice = name if name in names else values[tuple(point)]
            raise ModelError(f"not a valid patch set: the point '{name}' repeats '{twice}'")
        names[name], values[tuple(point)] = i, name
    return PatchSet(
        tuple(names), tuple(values), labels, str(description), dict(digests),
        tuple(entry["patch"] for entry in patches),
    )  # fmt: skip
