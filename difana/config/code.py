"""Kinds of values that name code, ``module:name``, and what it is given; nothing is imported."""

from __future__ import annotations

import math
import re
from typing import Any

from difana.config.kinds import Kind, Nested, WrongError
from difana.config.places import Node, Problems

_CODE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def is_code(text: str) -> bool:
    """Return whether a text names code, ``module:name``.

    Example:
        >>> is_code("package.module:Name"), is_code("mlp"), is_code("module:Name()")
        (True, False, False)
    """
    return re.fullmatch(_CODE, text) is not None


def or_code(kind: Kind) -> Kind:
    """Return the kind of a value that may be code, ``module:name``; nothing is imported here."""

    def parse(node: Node) -> Any:
        if isinstance(node.value, str) and is_code(node.value):
            return node.value
        try:
            return kind.parse(node)
        except WrongError as error:
            raise WrongError(f"{error} (or code of yours, 'module:name')") from error

    return Kind(parse, {"anyOf": [kind.schema, {"type": "string", "pattern": f"^{_CODE}$"}]})


def plain_by_name(names: str) -> Nested:
    """Return the kind of texts, numbers, truth values and lists of these by name, read as pairs.

    Args:
        names: What the names are of.
    """

    def value(node: Node, problems: Problems) -> Any:
        if isinstance(node.value, list):
            return tuple(value(child, problems) for child in node.value)
        if isinstance(node.value, float) and not math.isfinite(node.value):
            problems.add(node.line, f"{node.path} must be finite, got {node.kind()}")
        if node.value is not None and not isinstance(node.value, str | bool | int | float):
            what = "a text, a number, true, false, or a list of these"
            problems.add(node.line, f"{node.path} must be {what}, got {node.kind()}")
        return node.value

    def read(node: Node, problems: Problems) -> tuple[tuple[str, Any], ...]:
        if not isinstance(node.value, dict):
            problems.add(node.line, f"{node.path} must map {names} to values; got {node.kind()}")
            return ()
        return tuple((name, value(child, problems)) for name, child in node.value.items())

    return Nested(read, {"type": "object"})
