"""Expressions of branch names: parsed, checked against a white list, evaluated without ``eval``."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from difana._errors import InputError, nearest
from difana.data import _functions

_ARITHMETIC = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    # floats, so that 9**9**9 overflows at once instead of filling the memory
    ast.Pow: lambda a, b: (float(a) if isinstance(a, int) else a) ** b,
}
_BITWISE = {
    ast.BitAnd: lambda a, b: a & b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitXor: lambda a, b: a ^ b,
}
_COMPARISONS = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
}
_NUMPY: Any = np
CONSTANTS = {"pi": float(np.pi)}


@dataclasses.dataclass(frozen=True)
class Expression:
    """A text such as ``"sqrt(px**2 + py**2)"`` or ``"num(jet_pt) >= 2 and met > 30"``.

    Allowed are names, numbers, ``+ - * / // % **``, comparisons (chained ones too),
    ``and or not``, ``& | ^ ~`` (and ``&& ||``), ``x if condition else y``, indexing behind the
    event axis (``jet_pt[:, 0]``, ``jet_pt[jet_pt > 30]``) and the functions of
    `functions()`. Reductions (``max(jet_pt)``, ``sum``, ``mean``, ``any``, ``all``, ``num``)
    run over the entries of one event, never over events. A name that is no identifier stands in
    backquotes: `` `Jet/Jet.pt` ``; a dotted name needs none.

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
        _parse(self.text)

    @classmethod
    def of(cls, text: str | float, known: Mapping[str, Any] | frozenset[str]) -> Expression:
        """Return the expression of ``text``; a text that is itself a known name needs no quotes."""
        text = str(text)
        quoted = text in known and not text.isidentifier() and "`" not in text
        return cls(f"`{text}`" if quoted else text)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the branches used, in the order of their first use."""
        return _parse(self.text).names

    def evaluate(self, columns: Mapping[str, Any], xp: Any = np) -> Any:
        """Return the value for the given columns.

        Args:
            columns: Arrays by branch name; the first axis counts events.
            xp: ``numpy``, ``awkward`` or ``jax.numpy``, matching the arrays.

        Raises:
            InputError: If a name is missing, or an operation does not fit the shapes.
        """
        parsed = _parse(self.text)
        for name in parsed.names:
            if name not in columns and name not in CONSTANTS:
                raise InputError(
                    f"expression '{self.text}': no branch or column '{name}'."
                    f"{nearest(name, columns)}"
                )
        walker = _Evaluator(self.text, parsed.quoted, columns, _functions.table(xp))
        try:
            with np.errstate(all="ignore"):  # not-a-number is reported later, with column and entry
                return walker.visit(parsed.tree)
        except InputError:
            raise
        except (ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"expression '{self.text}' cannot be evaluated: {reason}. An index such as [:, 0] "
                "needs that many entries in every event: select them first (num(x) > 0) or write "
                "at(x, 0, default)"
            ) from error


def functions() -> tuple[str, ...]:
    """Return the names of the functions an `Expression` may call.

    Example:
        >>> "sqrt" in functions()
        True
    """
    return tuple(sorted(_functions.table(_NUMPY)))


@dataclasses.dataclass(frozen=True)
class _Parsed:
    tree: ast.expr
    names: tuple[str, ...]
    quoted: Mapping[str, str]


@functools.lru_cache(maxsize=1024)
def _parse(text: str) -> _Parsed:
    """Return the checked syntax tree, the names in it and the map of backquoted names."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"an expression is empty or no text: {text!r}")
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        key = f"_quoted_{len(quoted)}_"
        quoted[key] = match[1]
        return key

    source = re.sub(r"`([^`]+)`", placeholder, text)
    source = source.replace("&&", " and ").replace("||", " or ")
    source = " ".join(source.split())
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        where = getattr(error, "offset", None)
        near = f" near '{source[max(where - 1, 0) : where + 11]}'" if where else ""
        hint = " ('!' is written 'not')" if re.search(r"!(?!=)", source) else ""
        raise InputError(f"expression '{text}' has a syntax error{near}{hint}") from error
    names: dict[str, None] = {}
    _check(tree, text, source.encode(), names)
    named = tuple(quoted.get(name, name) for name in names)
    return _Parsed(tree, named, quoted)


def _check(node: ast.AST, text: str, source: bytes, names: dict[str, None]) -> None:
    """Refuse every node that is not on the white list; collect names in order."""

    def children(*nodes: ast.AST) -> None:
        for child in nodes:
            _check(child, text, source, names)

    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            pass
        case ast.Name(id=name):
            if name not in CONSTANTS:
                names.setdefault(name)
        case ast.Attribute():
            names.setdefault(_dotted(node, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC | _BITWISE:
            children(left, right)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not() | ast.Invert(), operand=operand):
            children(operand)
        case ast.BoolOp(values=values):
            children(*values)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            children(body, test, orelse)
        case ast.Compare(left=left, ops=ops, comparators=right):
            if not all(type(op) in _COMPARISONS for op in ops):
                raise InputError(f"expression '{text}': 'in' and 'is' are not allowed")
            for operand in (left, *right):
                _check_precedence(operand, text, source)
            children(left, *right)
        case ast.Subscript(value=value, slice=index):
            children(value)
            _check_index(index, text)
            children(*(index.elts if isinstance(index, ast.Tuple) else (index,)))
        case ast.Slice(lower=lower, upper=upper, step=step):
            children(*(part for part in (lower, upper, step) if part is not None))
        case ast.Call(func=func, args=args, keywords=[]):
            name = func.id if isinstance(func, ast.Name) else ast.unparse(func)
            known = _functions.table(_NUMPY)
            if name not in known:
                raise InputError(
                    f"expression '{text}': no function '{name}'.{nearest(name, known)} "
                    f"Known: {', '.join(sorted(known))}"
                )
            children(*args)
        case _:
            raise InputError(
                f"expression '{text}': '{ast.unparse(node)}' is not allowed here"
                f" ({type(node).__name__})"
            )


def _dotted(node: ast.AST, text: str) -> str:
    """Return ``a.b.c`` for an attribute chain of names (branch names with dots)."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, text)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise InputError(f"expression '{text}': '{ast.unparse(node)}' is not allowed here")


def _check_precedence(operand: ast.AST, text: str, source: bytes) -> None:
    """Refuse ``a > 1 & b < 2``, which Python reads as ``a > (1 & b) < 2``."""
    if not (isinstance(operand, ast.BinOp) and type(operand.op) in _BITWISE):
        return
    before = source[: operand.col_offset].rstrip()
    after = source[operand.end_col_offset :].lstrip()
    if not (before.endswith(b"(") and after.startswith(b")")):
        raise InputError(
            f"expression '{text}': '&' and '|' bind tighter than comparisons; write 'and' and "
            "'or', or put each comparison in brackets"
        )


def _check_index(index: ast.AST, text: str) -> None:
    """Refuse indices that would pick or drop whole events."""
    first = index.elts[0] if isinstance(index, ast.Tuple) and index.elts else index
    if isinstance(first, ast.Slice):
        whole = first.lower is None and first.upper is None and first.step is None
    else:
        whole = not isinstance(first, ast.Constant | ast.UnaryOp)
    if not whole:
        raise InputError(
            f"expression '{text}': '[{ast.unparse(index)}]' would pick events; the first index "
            "counts events and must be ':', as in jet_pt[:, 0]"
        )


class _Evaluator:
    """Walk a checked tree; every node type here passed `_check`."""

    def __init__(
        self, text: str, quoted: Mapping[str, str], columns: Mapping[str, Any], known: Mapping
    ) -> None:
        self.text = text
        self.quoted = quoted
        self.columns = columns
        self.known = known

    def visit(self, node: ast.AST) -> Any:
        return getattr(self, f"_{type(node).__name__.lower()}")(node)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        name = self.quoted.get(node.id, node.id)
        if name in CONSTANTS and name not in self.columns:
            return CONSTANTS[name]
        return self.columns[name]

    def _attribute(self, node: ast.Attribute) -> Any:
        return self.columns[_dotted(node, self.text)]

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.visit(node.left), self.visit(node.right)
        if type(node.op) in _BITWISE:
            return _BITWISE[type(node.op)](left, right)
        return _ARITHMETIC[type(node.op)](_functions.number(left), _functions.number(right))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            return -_functions.number(value)
        if isinstance(node.op, ast.Not):
            return self.known["logical_not"](value)
        # ~True is -2 for a Python bool
        return not value if isinstance(value, bool) else value if _plus(node.op) else ~value

    def _boolop(self, node: ast.BoolOp) -> Any:
        name = "logical_and" if isinstance(node.op, ast.And) else "logical_or"
        values = [self.visit(value) for value in node.values]
        return functools.reduce(self.known[name], values)

    def _ifexp(self, node: ast.IfExp) -> Any:
        parts = (self.visit(node.test), self.visit(node.body), self.visit(node.orelse))
        return self.known["where"](*parts)

    def _compare(self, node: ast.Compare) -> Any:
        operands = [self.visit(node.left), *(self.visit(right) for right in node.comparators)]
        results = [
            _COMPARISONS[type(op)](left, right)
            for op, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True)
        ]
        return functools.reduce(self.known["logical_and"], results)

    def _subscript(self, node: ast.Subscript) -> Any:
        return self.visit(node.value)[self.visit(node.slice)]

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.visit(element) for element in node.elts)

    def _slice(self, node: ast.Slice) -> slice:
        bounds = (node.lower, node.upper, node.step)
        return slice(*(None if bound is None else self.visit(bound) for bound in bounds))

    def _call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        return self.known[node.func.id](*(self.visit(argument) for argument in node.args))


def _plus(op: ast.unaryop) -> bool:
    return isinstance(op, ast.UAdd)
