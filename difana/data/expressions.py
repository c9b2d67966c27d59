"""Expressions of branch names: parsed, checked against a white list, evaluated without ``eval``."""

from __future__ import annotations

import ast
import dataclasses
import keyword
from collections.abc import Mapping
from typing import Any

import numpy as np

from difana._errors import InputError, nearest
from difana.data import _functions
from difana.data._pick import picked
from difana.data._syntax import Parsed, dotted, parse, shown

_EXPECTED = (
    *(ValueError, TypeError, IndexError, AttributeError, ArithmeticError),
    *(NotImplementedError, RecursionError, MemoryError),
)
CONSTANTS = {"pi": float(np.pi)}


@dataclasses.dataclass(frozen=True)
class Expression:
    """A text such as ``"sqrt(px**2 + py**2)"`` or ``"num(jet_pt) >= 2 and met > 30"``.

    Allowed are names, numbers, ``+ - * / // % **``, comparisons (chained ones too),
    ``and or not``, ``& | ^ ~`` (and ``&& ||``), ``x if condition else y``, indexing behind the
    event axis (``jet_pt[:, 0]``, ``jet_pt[jet_pt > 30]``) and the functions of
    `functions()`. Reductions (``max(jet_pt)``, ``sum``, ``mean``, ``any``, ``all``, ``num``)
    run over the entries of one event, never over events. A name that is no identifier stands in
    backquotes, as ``Jet/Jet.pt`` has to; a dotted name needs none.

    Attributes:
        text: The expression as written.

    Raises:
        InputError: If the text cannot be parsed or uses something that is not allowed.

    Example:
        >>> import numpy as np
        >>> expression = Expression("2 * pt if abs(eta) < 1 else 0")
        >>> expression.names
        ('pt', 'eta')
        >>> columns = {"pt": np.array([10.0, 20.0]), "eta": np.array([0.5, -2.0])}
        >>> expression.evaluate(columns, np).tolist()
        [20.0, 0.0]
    """

    text: str

    def __post_init__(self) -> None:
        """Parse once, so that a bad text is refused where it is written."""
        parse(self.text)

    @classmethod
    def of(cls, text: str | float, known: Mapping[str, Any] | frozenset[str]) -> Expression:
        """Return the expression of ``text``; a text that is itself a known name needs no quotes."""
        text = str(text)
        plain = text.isidentifier() and text.isascii() and not keyword.iskeyword(text)
        quoted = text in known and not plain and "`" not in text
        return cls(f"`{text}`" if quoted else text)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the branches used, in the order of their first use."""
        return tuple(name for name in parse(self.text).names if name not in CONSTANTS)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants used; a branch of such a name hides the constant."""
        return tuple(name for name in parse(self.text).names if name in CONSTANTS)

    def evaluate(self, columns: Mapping[str, Any], xp: Any = np) -> Any:
        """Return the value for the given columns.

        Numbers are double precision and integers 64 bits, whatever the columns are: no integer
        wraps around. (Arrays of JAX keep their precision.)

        Args:
            columns: Arrays by branch name; the first axis counts events.
            xp: ``numpy``, ``awkward`` or ``jax.numpy``, matching the arrays.

        Raises:
            InputError: If a name is missing, an operation does not fit the shapes, or the result
                of integer arithmetic needs more than 64 bits.
        """
        parsed = parse(self.text)
        for name in parsed.names:
            if name not in columns and name not in CONSTANTS:
                raise InputError(
                    f"expression '{shown(self.text)}': no branch or column '{name}'."
                    f"{nearest(name, columns)}"
                )
        try:
            with np.errstate(all="ignore"):  # not-a-number is reported later, with column and entry
                return _Evaluator(parsed, columns, xp).visit(parsed.tree)
        except InputError as error:
            if str(error).startswith("expression '"):
                raise
            raise InputError(f"expression '{shown(self.text)}': {error}") from error
        except _EXPECTED as error:
            raise InputError(
                f"expression '{shown(self.text)}' cannot be evaluated: {_reason(error)}"
            ) from error


def functions() -> tuple[str, ...]:
    """Return the names of the functions an `Expression` may call.

    Example:
        >>> "sqrt" in functions()
        True
    """
    return tuple(sorted(_functions.SIGNATURES))


class _Evaluator:
    """Walk a checked tree; every node type here passed the white list."""

    def __init__(self, parsed: Parsed, columns: Mapping[str, Any], xp: Any) -> None:
        self.quoted = parsed.quoted
        self.columns = columns
        self.xp = xp
        self.known = _functions.table(xp)
        self.operators = _functions.operators(xp)

    def visit(self, node: ast.AST) -> Any:
        return getattr(self, f"_{type(node).__name__.lower()}")(node)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        return self._column(self.quoted.get(node.id, node.id))

    def _attribute(self, node: ast.Attribute) -> Any:
        return self._column(str(dotted(node)))

    def _column(self, name: str) -> Any:
        return self.columns[name] if name in self.columns else CONSTANTS[name]

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.visit(node.left), self.visit(node.right)
        _functions.require_no_text("arithmetic", left, right)
        return self.operators[type(node.op).__name__](left, right)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        _functions.require_no_text("a sign", value)
        if isinstance(node.op, ast.Not):
            return self.known["logical_not"](value)
        return value if isinstance(node.op, ast.UAdd) else self.operators[_name_of(node.op)](value)

    def _boolop(self, node: ast.BoolOp) -> Any:
        combined = self.known["logical_and" if isinstance(node.op, ast.And) else "logical_or"]
        value = self.visit(node.values[0])
        for other in node.values[1:]:
            value = combined(value, self.visit(other))
        return value

    def _ifexp(self, node: ast.IfExp) -> Any:
        parts = (self.visit(node.test), self.visit(node.body), self.visit(node.orelse))
        return self.known["where"](*parts)

    def _compare(self, node: ast.Compare) -> Any:
        left, value = self.visit(node.left), None
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.visit(comparator)
            result = self.operators[_name_of(op)](left, right)
            value = result if value is None else self.known["logical_and"](value, result)
            left = right
        return value

    def _subscript(self, node: ast.Subscript) -> Any:
        return picked(self.visit(node.value), self.visit(node.slice), self.xp)

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.visit(element) for element in node.elts)

    def _slice(self, node: ast.Slice) -> slice:
        bounds = (node.lower, node.upper, node.step)
        return slice(*(None if bound is None else self.visit(bound) for bound in bounds))

    def _call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        return self.known[node.func.id](*(self.visit(argument) for argument in node.args))


def _reason(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return "a number is too large"
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].split(" (in compiled")[0]
    if isinstance(error, IndexError):
        reason += (
            ". An index such as [:, 0] needs that many entries in every event: select them first "
            "(num(x) > 0) or write at(x, 0, default)"
        )
    return reason


def _name_of(op: ast.AST) -> str:
    return type(op).__name__
