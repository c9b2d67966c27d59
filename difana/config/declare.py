"""A configuration is declared as dataclasses: reader and JSON schema come from their fields."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from difana._errors import nearest
from difana.config.kinds import (
    FLAG,
    MOST_STEPS,
    TEXT,
    TEXTS,
    Kind,
    Nested,
    choice,
    integer,
    number,
    numbers,
)
from difana.config.places import Node, Problems, shortened

_KEY = "difana.key"
Values = dict[str, Any]
Then = Callable[[Values, Node, Problems], Values]


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a mapping in a file, and the field of a dataclass that gets its value.

    Attributes:
        key: Its name in the file.
        field: Name of the field.
        kind: What its value must be.
        doc: What it means.
        default: Value where it does not stand there; `dataclasses.MISSING` where it must.
    """

    key: str
    field: str
    kind: Kind | Nested
    doc: str
    default: Any

    @property
    def required(self) -> bool:
        """Whether it must stand there."""
        return self.default is dataclasses.MISSING


Table = tuple[Key, ...]


def key(
    doc: str = "",
    kind: Kind | Nested | None = None,
    *,
    name: str = "",
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declare a field of a dataclass as a key of a file.

    Args:
        doc: What it means; by default what the section ``Attributes`` of the docstring says.
        kind: What its value must be; by default what the annotation says: numbers are positive,
            a tuple of ``str`` is a text or a list of texts, a ``Literal`` one of its names, a
            dataclass a mapping of its keys, a tuple of dataclasses a list of entries.
        name: Name in the file; by default that of the field in camel case.
        default: Value where it does not stand in a file; without it the key must stand there.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Options:
        ...     steps: int = key("number of steps", default=100)
        >>> [(entry.key, entry.kind.schema["maximum"]) for entry in table_of(Options)]
        [('Steps', 10000000)]
    """
    return dataclasses.field(default=default, metadata={_KEY: (doc, kind, name)})


def like(cls: type, field: str, kind: Kind | Nested | None = None) -> Any:
    """Declare a field as that of another dataclass: its meaning, kind and default stand there.

    Args:
        cls: The other dataclass, e.g. `difana.train.Training`.
        field: Name of its field.
        kind: What its value must be, if not what the annotation there says.
    """
    own = next(entry for entry in table_of(cls) if entry.field == field)
    return key(own.doc, kind or own.kind, default=own.default)


def filled(default: Any = dataclasses.MISSING, *, compare: bool = True) -> Any:
    """Declare a field that is no key of a file.

    The reader fills ``where`` (file and line) of entries, ``path`` and ``echo`` (plain values) of
    the whole.

    Args:
        default: Its default; needed for all other fields.
        compare: Whether it counts when two are compared.
    """
    return dataclasses.field(default=default, compare=compare, metadata={_KEY: None})


def table_of(cls: type) -> Table:
    """Return the keys that a dataclass declares; a field without `key` is one with its default."""
    docs, hints = _docs(cls.__doc__ or ""), typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        declared = field.metadata.get(_KEY, ("", None, ""))
        if declared is None:
            continue
        doc, kind, name = declared
        found.append(
            Key(
                name or camel(field.name),
                field.name,
                kind or _kind_of(hints[field.name]),
                doc or docs.get(field.name, ""),
                field.default,
            )
        )
    return tuple(found)


def only(cls: type, *fields: str) -> Table:
    """Return the table of some fields of a dataclass; the first of them is required."""
    known = {entry.field: entry for entry in table_of(cls)}
    first = dataclasses.replace(known[fields[0]], default=dataclasses.MISSING)
    return (first, *(known[name] for name in fields[1:]))


def camel(name: str) -> str:
    """Return the key of a field.

    Example:
        >>> camel("pretrain_steps")
        'PretrainSteps'
    """
    return "".join(word.capitalize() for word in name.split("_"))


def read_mapping(
    node: Node, table: Table, problems: Problems, *, where: str = "", hints: Mapping[str, str] = {}
) -> Values:
    """Return the values of a mapping by field, defaults filled in; note what is wrong.

    Args:
        node: The mapping.
        table: Its keys.
        problems: Takes what is wrong.
        where: What messages call the mapping; by default its path.
        hints: Remedies for unknown keys that are likely tried.
    """
    where = where or node.path
    known = {entry.key: entry for entry in table}
    values = {entry.field: None if entry.required else entry.default for entry in table}
    if not isinstance(node.value, dict):
        expected = ", ".join(known)
        problems.add(node.line, f"{where} must be a mapping of {expected}; got {node.kind()}")
        return values
    for name, child in node.value.items():
        if name not in known:
            hint = f" {hints[name]}" if name in hints else nearest(name, known)
            problems.add(child.line, f"unknown key '{shortened(name)}' in {where}.{hint}")
            continue
        entry = known[name]
        values[entry.field] = entry.kind.read(child, problems, values[entry.field])
    for entry in table:
        if entry.required and entry.key not in node.value:
            problems.add(node.line, f"missing key '{entry.key}' in {where}: {entry.doc}")
    return values


def section(cls: type, *, hints: Mapping[str, str] = {}) -> Nested:
    """Return the kind of a mapping that becomes a dataclass; an empty one has all defaults."""
    table = table_of(cls)

    def parse(node: Node, problems: Problems) -> Any:
        node = Node({}, node.line, node.path) if node.value is None else node
        return cls(**read_mapping(node, table, problems, hints=hints))

    return Nested(parse, json_schema(table))


def either(kind: Kind, mapping: Nested) -> Nested:
    """Return the kind of a value, or of a mapping in its place."""

    def read(node: Node, problems: Problems) -> Any:
        own: Kind | Nested = mapping if isinstance(node.value, dict) else kind
        return own.read(node, problems)

    return Nested(read, {"anyOf": [kind.schema, mapping.schema]})


def entries(cls: type, *, then: Then | None = None) -> Nested:
    """Return the kind of a list of mappings that become dataclasses; their names must differ.

    Args:
        cls: The dataclass; a field ``where`` gets file and line.
        then: Changes the values by field of an entry before the dataclass is made.
    """
    table = table_of(cls)
    placed = any(field.name == "where" for field in dataclasses.fields(cls))

    def parse(node: Node, problems: Problems) -> tuple[Any, ...]:
        if node.value is not None and not isinstance(node.value, list):
            text = f"{node.path} must be a list of entries, each after a '-'; got {node.kind()}"
            problems.add(node.line, text)
        found, lines = [], {}
        for child in node.value if isinstance(node.value, list) else ():
            values = read_mapping(child, table, problems)
            name = values.get("name")
            if name is not None and (first := lines.setdefault(name, child)) is not child:
                text = f"{node.path} has two entries '{name}', the first in line {first.line}"
                problems.add(child.line, text)
            values = values if then is None else then(values, child, problems)
            place = {"where": problems.where(child.line)} if placed else {}
            found.append(cls(**values, **place))
        return tuple(found)

    return Nested(parse, {"type": "array", "items": json_schema(table)})


def json_schema(table: Table) -> dict[str, Any]:
    """Return the JSON schema of a mapping.

    Example:
        >>> json_schema((Key("Name", "name", TEXT, "its name", None),))["properties"]
        {'Name': {'type': 'string', 'minLength': 1, 'description': 'its name'}}
    """
    properties = {}
    for own in table:
        properties[own.key] = {**own.kind.schema, **({"description": own.doc} if own.doc else {})}
        value = own.default
        if value not in (None, (), dataclasses.MISSING) and not dataclasses.is_dataclass(value):
            properties[own.key]["default"] = list(value) if isinstance(value, tuple) else value
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [entry.key for entry in table if entry.required]
    return schema | ({"required": required} if required else {})


def _kind_of(annotation: Any) -> Kind | Nested:
    """Return the kind of an annotation."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):  # of one kind and None
        return _kind_of(next(part for part in inner if part is not types.NoneType))
    if origin is typing.Literal:
        return choice(*inner)
    if dataclasses.is_dataclass(annotation):
        return section(typing.cast(type, annotation))
    if origin is tuple and dataclasses.is_dataclass(inner[0]):
        return entries(typing.cast(type, inner[0]))
    if annotation == tuple[str, ...]:
        return TEXTS
    if origin is tuple:
        size = None if inner[-1] is Ellipsis else len(inner)
        item = _kind_of(inner[0])
        assert isinstance(item, Kind)
        return numbers(item, least=size or 0, most=size)
    whole, real = integer(1, MOST_STEPS), number(above=0.0)
    return {str: TEXT, bool: FLAG, int: whole, float: real}[annotation]


def _docs(docstring: str) -> dict[str, str]:
    """Return the sentences of the Attributes section by name."""
    found: dict[str, str] = {}
    _, _, listed = docstring.partition("Attributes:")
    last = ""
    for line in listed.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 8 and ":" in line:
            last, _, text = line.strip().partition(":")
            found[last] = text.strip()
        elif last and line.strip():
            found[last] += " " + line.strip()
    return found
