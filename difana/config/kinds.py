"""Kinds of values: what may stand behind a key. Parser and JSON schema come from the same place."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from difana._errors import InputError, nearest
from difana.config.places import Node, Problems, shortened
from difana.data import Expression

MOST_STEPS = 10_000_000
_MOST_EDGES = 10_001
_MOST_ENTRIES = 10_000


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

    def read(self, node: Node, problems: Problems, default: Any = None) -> Any:
        """Return the value of a node; where it is wrong, note that and return the default."""
        try:
            return self.parse(node)
        except WrongError as error:
            problems.add(node.line, f"{node.path} {error}")
            return default


@dataclasses.dataclass(frozen=True)
class Nested:
    """What a value must be that holds others, of which several may be wrong.

    Attributes:
        parse: Returns the value of a node and notes what is wrong.
        schema: The same as JSON schema.
    """

    parse: Callable[[Node, Problems], Any]
    schema: Mapping[str, Any]

    def read(self, node: Node, problems: Problems, default: Any = None) -> Any:
        """Return the value of a node; note what is wrong."""
        return self.parse(node, problems)


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
    if len(node.value) > _MOST_ENTRIES:
        raise WrongError(f"is a list of {len(node.value)} texts, at most {_MOST_ENTRIES} are read")
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
FLAG_OR_TEXTS = Kind(
    lambda node: node.value if isinstance(node.value, bool) else _texts(node),
    {"anyOf": [FLAG.schema, *TEXTS.schema["anyOf"]]},
)
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


def some_of(*names: str) -> Kind:
    """Return the kind of one of some names, or of a list of them."""

    def parse(node: Node) -> tuple[str, ...]:
        found = _texts(node)
        for name in found:
            if name not in names:
                listed = ", ".join(f"'{other}'" for other in names)
                hint = nearest(name, names)
                raise WrongError(f"must be of {listed}; got '{shortened(name)}'.{hint}")
        return found

    item = {"enum": list(names)}
    return Kind(parse, {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]})


def or_word(word: str, kind: Kind) -> Kind:
    """Return the kind of a value that may be a word, too."""

    def parse(node: Node) -> Any:
        if node.value == word:
            return word
        try:
            return kind.parse(node)
        except WrongError as error:
            raise WrongError(f"{error} (or '{word}')") from error

    return Kind(parse, {"anyOf": [{"const": word}, kind.schema]})


def numbers(
    item: Kind, *, least: int, most: int | None = None, rule: str = "", holds: Any = None
) -> Kind:
    """Return the kind of a list of numbers that may have to obey a rule."""
    size = f"{least}" if least == most else f"{least} to {most or _MOST_EDGES}"
    what = f"a list of {size} numbers{rule}"

    def parse(node: Node) -> tuple[Any, ...]:
        if not isinstance(node.value, list):
            raise _wrong(what, node)
        if len(node.value) > (_MOST_EDGES if most is None else most):
            raise WrongError(f"must be {what}, got {len(node.value)} of them")
        values = tuple(_item(child, item.parse) for child in node.value)
        right = len(values) >= least and (most is None or len(values) <= most)
        if not right or (holds is not None and not holds(values)):
            raise WrongError(f"must be {what}, got {shortened(str(list(values)))}")
        return values

    schema = {"type": "array", "items": item.schema, "minItems": least}
    return Kind(parse, schema | ({} if most is None else {"maxItems": most}))


def _increasing(values: Sequence[float]) -> bool:
    return all(b > a for a, b in itertools.pairwise(values))


EDGES = numbers(NUMBER, least=2, rule=" that increase", holds=_increasing)
BOUNDS = numbers(NUMBER, least=2, most=2, rule=" that increase", holds=_increasing)


def expressions(names: str = "names", *, listed: bool = False) -> Nested:
    """Return the kind of expressions by name, read as pairs.

    Args:
        names: What the names are of.
        listed: A list of branches will do.
    """

    def read(node: Node, problems: Problems) -> tuple[tuple[str, str], ...]:
        children = node.value
        if listed and isinstance(children, list):
            children = {str(child.value): child for child in node.value}
            if len(children) < len(node.value):
                problems.add(node.line, f"{node.path} names a branch twice")
        if not isinstance(children, dict) or not children:
            text = f"{node.path} must map {names} to expressions; got {node.kind()}"
            problems.add(node.line, text if node.value else f"{node.path} is empty")
            return ()
        found = {name: EXPRESSION.read(child, problems) for name, child in children.items()}
        return tuple((name, text) for name, text in found.items() if text is not None)

    mapping = {"type": "object", "additionalProperties": EXPRESSION.schema, "minProperties": 1}
    branches = {"type": "array", "items": TEXT.schema, "minItems": 1}
    return Nested(read, {"anyOf": [branches, mapping]} if listed else mapping)


def lists_by_name(names: str) -> Nested:
    """Return the kind of a text or a list of texts by name, read as pairs.

    Args:
        names: What the names are of.
    """

    def read(node: Node, problems: Problems) -> tuple[tuple[str, tuple[str, ...]], ...]:
        if not isinstance(node.value, dict):
            problems.add(node.line, f"{node.path} must map {names} to lists; got {node.kind()}")
            return ()
        found = {name: TEXTS.read(child, problems) for name, child in node.value.items()}
        return tuple((name, texts) for name, texts in found.items() if texts is not None)

    return Nested(read, {"type": "object", "additionalProperties": TEXTS.schema})


def texts_by_name(names: str) -> Nested:
    """Return the kind of texts by name, read as pairs.

    Args:
        names: What the names are of.
    """

    def read(node: Node, problems: Problems) -> tuple[tuple[str, str], ...]:
        if not isinstance(node.value, dict):
            problems.add(node.line, f"{node.path} must map {names} to texts; got {node.kind()}")
            return ()
        found = {name: TEXT.read(child, problems) for name, child in node.value.items()}
        return tuple((name, text) for name, text in found.items() if text is not None)

    return Nested(read, {"type": "object", "additionalProperties": TEXT.schema})
