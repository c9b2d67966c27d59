"""Tables of keys: what may stand in a configuration. Parser and JSON schema come from here."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from difana._errors import InputError, nearest
from difana.analysis._yaml import Problems
from difana.analysis._yaml_values import Node, shortened
from difana.data import Expression


class WrongError(Exception):
    """A value of the wrong kind; the text says what is expected."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a value must be.

    Attributes:
        parse: Returns the value of a node or raises `WrongError`.
        schema: The same as JSON schema.
    """

    parse: Callable[[Node], Any]
    schema: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Field:
    """One key of a mapping.

    Attributes:
        key: Its name.
        kind: What its value must be.
        doc: What it means.
        required: Whether it must stand there.
        default: Value where it does not.
    """

    key: str
    kind: Kind
    doc: str
    required: bool = False
    default: Any = None


Table = Sequence[Field]

MOST_STEPS = 10_000_000
MOST_EDGES = 10_001
MOST_ENTRIES = 10_000


def read_mapping(
    node: Node, table: Table, problems: Problems, *, where: str, hints: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Return the values of a mapping by key, defaults filled in; note what is wrong.

    Args:
        node: The mapping.
        table: Its keys.
        problems: Takes what is wrong.
        where: What messages call the mapping.
        hints: Remedies for unknown keys that are likely tried.
    """
    known = {field.key: field for field in table}
    values = {field.key: field.default for field in table}
    if not isinstance(node.value, dict):
        expected = ", ".join(known)
        problems.add(node.line, f"{where} must be a mapping of {expected}; got {node.kind()}")
        return values
    for key, child in node.value.items():
        if key not in known:
            hint = f" {hints[key]}" if key in hints else nearest(key, known)
            problems.add(child.line, f"unknown key '{shortened(key)}' in {where}.{hint}")
            continue
        try:
            values[key] = known[key].kind.parse(child)
        except WrongError as error:
            problems.add(child.line, f"{child.path} {error}")
    for field in table:
        if field.required and field.key not in node.value:
            problems.add(node.line, f"missing key '{field.key}' in {where}: {field.doc}")
    return values


def _wrong(what: str, node: Node) -> WrongError:
    return WrongError(f"must be {what}, got {node.kind()}")


def _text(node: Node) -> str:
    if not isinstance(node.value, str):
        quotes = ": put it in quotes" if isinstance(node.value, bool | int | float) else ""
        raise WrongError(f"must be text, got {node.kind()}{quotes}")
    if not node.value.strip():
        raise WrongError("is an empty text")
    return node.value


def _number(node: Node) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise _wrong("a number", node)
    if not math.isfinite(node.value):
        raise _wrong("a finite number", node)
    return float(node.value)


def _integer(node: Node) -> int:
    if isinstance(node.value, bool) or not isinstance(node.value, int):
        raise _wrong("a whole number", node)
    return node.value


def _flag(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise _wrong("true or false", node)
    return node.value


def _expression(node: Node) -> str:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong("an expression of branches", node)
    try:
        Expression(str(value))
    except InputError as error:
        raise WrongError(f"is not valid: {error}") from error
    return str(value)


def _texts(node: Node) -> tuple[str, ...]:
    if not isinstance(node.value, list):
        return (_text(node),)
    if not node.value:
        raise WrongError("is an empty list")
    if len(node.value) > MOST_ENTRIES:
        raise WrongError(f"is a list of {len(node.value)} texts, at most {MOST_ENTRIES} are read")
    found = tuple(_item(child, _text) for child in node.value)
    twice = [text for text, times in collections.Counter(found).items() if times > 1]
    if twice:
        raise WrongError(f"names '{twice[0]}' twice")
    return found


def _item(node: Node, parse: Callable[[Node], Any]) -> Any:
    try:
        return parse(node)
    except WrongError as error:
        raise WrongError(f"{node.path[node.path.rindex('[') :]} {error}") from error


TEXT = Kind(_text, {"type": "string", "minLength": 1})
TEXTS = Kind(
    _texts, {"anyOf": [TEXT.schema, {"type": "array", "items": TEXT.schema, "minItems": 1}]}
)
FLAG = Kind(_flag, {"type": "boolean"})
EXPRESSION = Kind(_expression, {"type": ["string", "number"]})
NUMBER = Kind(_number, {"type": "number"})


def number(
    *, above: float | None = None, least: float | None = None, below: float | None = None
) -> Kind:
    """Return the kind of a number with limits."""

    def parse(node: Node) -> float:
        value = _number(node)
        if above is not None and not value > above:
            raise WrongError(f"must be above {above:g}, got {value:g}")
        if least is not None and not value >= least:
            raise WrongError(f"must be at least {least:g}, got {value:g}")
        if below is not None and not value < below:
            raise WrongError(f"must be below {below:g}, got {value:g}")
        return value

    limits = {"exclusiveMinimum": above, "minimum": least, "exclusiveMaximum": below}
    return Kind(parse, {"type": "number"} | {k: v for k, v in limits.items() if v is not None})


def integer(least: int, most: int, why: str = "more would never end") -> Kind:
    """Return the kind of a whole number with limits; ``why`` there is an upper one."""

    def parse(node: Node) -> int:
        if _integer(node) < least:
            raise WrongError(f"must be at least {least}, got {node.value}")
        if node.value > most:
            raise WrongError(f"must be at most {most}, got {node.value}: {why}")
        return node.value

    return Kind(parse, {"type": "integer", "minimum": least, "maximum": most})


SEED = integer(0, 2**62, "it must fit into 62 bits")
EVENTS = integer(1, 10**9, "no sample has more events")


def choice(*names: str) -> Kind:
    """Return the kind of one of some names."""

    def parse(node: Node) -> str:
        if node.value not in names:
            listed = ", ".join(f"'{name}'" for name in names)
            hint = nearest(node.value, names) if isinstance(node.value, str) else ""
            raise WrongError(f"must be one of {listed}; got {node.kind()}.{hint}")
        return node.value

    return Kind(parse, {"enum": list(names)})


def numbers(
    item: Kind, *, least: int, most: int | None = None, rule: str = "", holds: Any = None
) -> Kind:
    """Return the kind of a list of numbers that may have to obey a rule."""
    size = f"{least}" if least == most else f"{least} to {most or MOST_EDGES}"
    what = f"a list of {size} numbers{rule}"

    def parse(node: Node) -> tuple[Any, ...]:
        if not isinstance(node.value, list):
            raise _wrong(what, node)
        if len(node.value) > (MOST_EDGES if most is None else most):
            raise WrongError(f"must be {what}, got {len(node.value)} of them")
        values = tuple(_item(child, item.parse) for child in node.value)
        right = len(values) >= least and (most is None or len(values) <= most)
        if not right or (holds is not None and not holds(values)):
            raise WrongError(f"must be {what}, got {shortened(str(list(values)))}")
        return values

    schema = {"type": "array", "items": item.schema, "minItems": least}
    return Kind(parse, schema | ({} if most is None else {"maxItems": most}))


def increasing(values: Sequence[float]) -> bool:
    """Say whether each value is above the one before."""
    return all(b > a for a, b in itertools.pairwise(values))


def camel(name: str) -> str:
    """Return the key of an option.

    Example:
        >>> camel("pretrain_steps")
        'PretrainSteps'
    """
    return "".join(word.capitalize() for word in name.split("_"))


def table_of(options: type, kinds: Mapping[str, Kind], *, without: Sequence[str] = ()) -> Table:
    """Return the table of a dataclass of options: names in camel case, docs from its docstring."""
    docs = _docs(options.__doc__ or "")
    hints = typing.get_type_hints(options)
    return tuple(
        Field(
            camel(field.name),
            kinds.get(field.name) or _kind_of(hints[field.name]),
            docs.get(field.name, ""),
            default=field.default,
        )
        for field in dataclasses.fields(options)
        if field.name not in without
    )


def _kind_of(annotation: Any) -> Kind:
    """Return the kind of an annotation: positive numbers unless a table says otherwise."""
    if typing.get_origin(annotation) is tuple:
        inner = typing.get_args(annotation)
        item = _kind_of(inner[0])
        return (
            numbers(item, least=0)
            if inner[-1] is types.EllipsisType or inner[-1] is Ellipsis
            else numbers(item, least=len(inner), most=len(inner))
        )
    whole, real = integer(1, MOST_STEPS), number(above=0.0)
    return {str: TEXT, bool: FLAG, int: whole, float: real}[annotation]


def _docs(docstring: str) -> dict[str, str]:
    """Return the sentences of the Attributes section by name."""
    found: dict[str, str] = {}
    _, _, section = docstring.partition("Attributes:")
    last = ""
    for line in section.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 8 and ":" in line:
            last, _, text = line.strip().partition(":")
            found[last] = text.strip()
        elif last and line.strip():
            found[last] += " " + line.strip()
    return found


def json_schema(table: Table) -> dict[str, Any]:
    """Return the JSON schema of a mapping.

    Example:
        >>> json_schema([Field("Name", TEXT, "its name", required=True)])["required"]
        ['Name']
    """
    properties = {}
    for field in table:
        entry = dict(field.kind.schema) | {"description": field.doc}
        if field.default not in (None, ()):
            value = field.default
            entry["default"] = list(value) if isinstance(value, tuple) else value
        properties[field.key] = entry
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    required = [field.key for field in table if field.required]
    return schema | ({"required": required} if required else {})
