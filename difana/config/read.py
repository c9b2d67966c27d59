"""From a file to the dataclass that declares it, and to its JSON schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from difana._errors import nearest
from difana.config.declare import json_schema, table_of
from difana.config.document import load_yaml
from difana.config.places import Node, Problems, node_of

Config = TypeVar("Config")


def read_file(
    path: str | Path,
    cls: type[Config],
    *,
    check: Callable[[Config, Node, Problems], Config] | None = None,
) -> Config:
    """Return the dataclass of a YAML file; its fields are the sections.

    Nothing but the file itself is opened. All problems found are listed together.

    Args:
        path: The YAML file.
        cls: A frozen dataclass whose fields are declared by `key`; ``path`` and ``echo``, the file
            as plain values, declared by `filled`, are filled in.
        check: Looks at the whole, notes what does not fit together, and returns it, perhaps with
            defaults made explicit. A required section that is missing is None there.

    Raises:
        ConfigError: Names the file, line and key at fault and the nearest known key.

    Example:
        >>> import tempfile
        >>> from difana.config import key
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class File:
        ...     files: tuple[str, ...] = key("files to read")
        ...     steps: int = key("number of steps", default=100)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.yaml")
        ...     _ = path.write_text("Files: a.root")
        ...     read_file(path, File)
        File(files=('a.root',), steps=100)
    """
    return _read(load_yaml(path), Path(path), cls, check)


def read_values(
    values: Mapping[str, Any],
    cls: type[Config],
    *,
    path: str | Path,
    check: Callable[[Config, Node, Problems], Config] | None = None,
) -> Config:
    """Return the dataclass of plain values, as ``echo`` holds those of a file.

    Args:
        values: The values.
        cls: The dataclass, as in `read_file`.
        path: Where they come from, for messages.
        check: As in `read_file`.

    Raises:
        ConfigError: Names the key at fault.

    Example:
        >>> from difana.config import key
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class File:
        ...     files: tuple[str, ...] = key("files to read")
        >>> read_values({"Files": ["a.root"]}, File, path="result.json")
        File(files=('a.root',))
    """
    return _read(node_of(dict(values)), Path(path), cls, check)


def _read(
    root: Node,
    path: Path,
    cls: type[Config],
    check: Callable[[Config, Node, Problems], Config] | None,
) -> Config:
    problems = Problems(str(path))
    table = table_of(cls)
    known = {entry.key: entry for entry in table}
    for name, child in root.value.items():
        if name not in known:
            problems.add(child.line, f"unknown section '{name}'.{nearest(name, known)}")
    values: dict[str, Any] = {}
    for entry in table:
        values[entry.field] = None if entry.required else entry.default
        if entry.key in root.value:
            node = root.value[entry.key]
            values[entry.field] = entry.kind.read(node, problems, values[entry.field])
        elif entry.required:
            problems.add(1, f"missing section '{entry.key}'")
    own = {field.name for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    given = {"path": path, "echo": root.plain()}
    config = cls(**values, **{name: value for name, value in given.items() if name in own})
    if check is not None:
        config = check(config, root, problems)
    problems.raise_if_any()
    return config


def file_schema(cls: type, title: str) -> dict[str, Any]:
    """Return the JSON schema of a file, for editors.

    Args:
        cls: The dataclass whose fields are the sections.
        title: Title of the schema.
    """
    schema = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": schema, "title": title, **json_schema(table_of(cls))}


def paths_of(files: Sequence[str], *, beside: Path, folder: str | None = None) -> list[str]:
    """Return paths and globs of data files as they are opened; addresses (``://``) stay.

    Args:
        files: What a configuration names.
        beside: The configuration: relative paths start from its folder.
        folder: A folder of all of them, itself relative to that of the configuration.

    Example:
        >>> paths_of(["a.root", "root://x//b.root"], beside=Path("in/a.yaml"), folder="ntuples")
        ['in/ntuples/a.root', 'root://x//b.root']
    """
    base = beside.parent / Path(folder or "").expanduser()
    return [text if "://" in text else str(base / Path(text).expanduser()) for text in files]
