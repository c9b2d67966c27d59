"""Patch sets: the form in which analyses publish their signal grids."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from difana._errors import ModelError, nearest
from difana.likelihood.formats._json import load, read_json
from difana.likelihood.formats._schema import check_workspace
from difana.likelihood.formats.json_patch import Operations, apply_patch


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


class _Point(msgspec.Struct):
    """A point as it stands in a file: most runs want one patch of many, so they stay text."""

    metadata: Any
    patch: msgspec.Raw


class _File(msgspec.Struct):
    metadata: Any
    patches: list[_Point]
    version: Any


class _Patches(Sequence[Operations]):
    """The patches of a file, decoded when they are asked for."""

    def __init__(self, names: Sequence[str], texts: Sequence[msgspec.Raw]) -> None:
        self._names = names
        self._found: list[Any] = list(texts)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if isinstance(self._found[index], msgspec.Raw):
            text, where = io.BytesIO(self._found[index]), f"the patch of '{self._names[index]}'"
            self._found[index] = read_json(text, what="patch", lists=True, where=where)
        return self._found[index]


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
    patches: Sequence[Operations]

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


def _outline(point: _Point) -> Any:
    """Return an empty list for a list that is not decoded yet."""
    return [] if bytes(memoryview(point.patch)[:1]) == b"[" else None


def _strings(entry: Any, where: str) -> tuple[str, ...]:
    if not isinstance(entry, list) or not all(isinstance(label, str) for label in entry):
        raise ModelError(f"not a valid patch set: {where} is no list of strings")
    return tuple(entry)


def read_patchset(source: Mapping[str, Any] | Sequence | str | Path | IO[bytes]) -> PatchSet:
    """Read a patch set (pyhf schema 1.0.0).

    Args:
        source: A mapping, the path of a JSON file (gzipped or not), or a stream of bytes; a list
            of one patch set counts as that one. The patches of a file are decoded when they are
            used: what is wrong inside one is said then.

    Raises:
        ModelError: Names what is missing, malformed or stands twice.

    Example:
        >>> point = {"metadata": {"name": "p", "values": [1]}, "patch": []}
        >>> meta = {"references": {"hepdata": "ins1234567"}, "labels": ["m"], "description": "",
        ...         "digests": {"md5": "0" * 32}}
        >>> read_patchset({"version": "1.0.0", "metadata": meta, "patches": [point]}).names
        ('p',)
    """
    spec = load(source, what="patch set", lists=True, kind=list[_File] | _File)
    if isinstance(spec, (list, tuple)):
        if len(spec) != 1:
            raise ModelError(f"expected one patch set, found a list of {len(spec)}")
        spec = spec[0]
    texts = None
    if isinstance(spec, _File):
        texts = [point.patch for point in spec.patches]
        points = [{"metadata": point.metadata, "patch": _outline(point)} for point in spec.patches]
        spec = {"metadata": spec.metadata, "patches": points, "version": spec.version}
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
        tuple(p["patch"] for p in patches) if texts is None else _Patches(list(names), texts),
    )  # fmt: skip
