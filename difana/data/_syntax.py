"""The syntax of expressions: a white list of nodes, and limits that keep time and memory small."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import warnings
from collections.abc import Mapping

from difana._errors import InputError, nearest
from difana.data import _functions

LONGEST = 10_000
"""Characters of an expression."""
DEEPEST = 100
"""Levels of nesting; each term of a sum is one."""
LARGEST = 1_000
"""Names, numbers, operations and calls of an expression."""

BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_TOKENS = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|`(?P<quoted>[^`]+)`|(?P<and>&&)|(?P<or>\|\|)|(?P<space>\s+)|(?P<comment>\#)"""
    # Python would read another letter for some, e.g. the Greek mu for the micro sign
    r"""|(?P<foreign>(?!\d)\w*[^\W\x00-\x7f]\w*)"""
)


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A checked expression.

    Attributes:
        tree: Its syntax tree.
        names: The names in it, in the order of their first use; those of constants, too.
        quoted: The names by placeholder in the tree.
    """

    tree: ast.expr
    names: tuple[str, ...]
    quoted: Mapping[str, str]


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Parsed:
    """Return the checked syntax tree, the names in it and the map of backquoted names.

    Raises:
        InputError: If the text is no expression, or too long.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"an expression is empty or no text: {text!r}")
    if len(text) > LONGEST:
        raise InputError(
            f"expression '{shown(text)}' has {len(text)} characters, at most {LONGEST} are allowed"
        )
    quoted: dict[str, str] = {}

    def replaced(match: re.Match[str]) -> str:
        name = match["quoted"] or match["foreign"]
        if name:
            key = f"_quoted_{len(quoted)}_"
            quoted[key] = name
            return key
        if match["comment"]:
            raise InputError(f"expression '{shown(text)}': '#' is not allowed")
        if match["text"]:
            return match["text"]
        return " and " if match["and"] else " or " if match["or"] else " "

    source = _TOKENS.sub(replaced, text).strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # e.g. '1if x else 2'
            tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, Warning) as error:
        where = getattr(error, "offset", None)
        near = f" near '{source[max(where - 1, 0) : where + 11]}'" if where else ""
        hint = " ('!' is written 'not')" if re.search(r"!(?!=)", source) else ""
        raise InputError(f"expression '{shown(text)}' has a syntax error{near}{hint}") from error
    except (RecursionError, MemoryError):
        raise _too_deep(text) from None
    checker = _Checker(text, source.encode())
    checker.check(tree)
    named = dict.fromkeys(quoted.get(name, name) for name in checker.names)
    return Parsed(tree, tuple(named), quoted)


def shown(text: str) -> str:
    """Return a text for a message, cut in the middle where it is long.

    Example:
        >>> len(shown("x + " * 1000)) < 210
        True
    """
    return text if len(text) <= 200 else f"{text[:150]} ... {text[-40:]}"


def dotted(node: ast.AST) -> str | None:
    """Return ``a.b.c`` for an attribute chain of names (branch names with dots)."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return None if owner is None else f"{owner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def _too_deep(text: str) -> InputError:
    return InputError(
        f"expression '{shown(text)}' is nested too deeply: at most {DEEPEST} levels are allowed, "
        "and as many terms in a row. Put parts of a long sum in brackets, or define aliases"
    )


class _Checker:
    """Refuse every node that is not on the white list; collect names in order."""

    def __init__(self, text: str, source: bytes) -> None:
        self.text = text
        self.source = source
        self.names: dict[str, None] = {}
        self.nodes = 0

    def check(self, node: ast.AST, depth: int = 1, *, text_allowed: bool = False) -> None:
        self.nodes += 1
        if depth > DEEPEST:
            raise _too_deep(self.text)
        if self.nodes > LARGEST:
            raise InputError(
                f"expression '{shown(self.text)}' has too many terms: at most {LARGEST} names, "
                "numbers and operations are allowed. Define aliases for its parts"
            )
        match node:
            case ast.Constant(value=str()) if not text_allowed:
                raise self._refused(f"the text {node.value!r} can only be compared, by == or !=")
            case ast.Constant(value=bool() | int() | float() | str()):
                pass
            case ast.Name(id=name):
                self.names.setdefault(name)
            case ast.Attribute():
                self._attribute(node)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in (*_ARITHMETIC, *BITWISE):
                self._children(depth, left, right)
            case ast.UnaryOp(
                op=ast.USub() | ast.UAdd() | ast.Not() | ast.Invert(), operand=operand
            ):
                self._children(depth, operand)
            case ast.BoolOp(values=values):
                self._children(depth, *values)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self._children(depth, body, test, orelse)
            case ast.Compare(left=left, ops=ops, comparators=right):
                self._compare(ops, (left, *right), depth)
            case ast.Subscript(value=value, slice=index):
                self._children(depth, value)
                self._index(index)
                self._children(depth, *(index.elts if isinstance(index, ast.Tuple) else (index,)))
            case ast.Slice(lower=lower, upper=upper, step=step):
                self._children(depth, *(x for x in (lower, upper, step) if x is not None))
            case ast.Call(func=func, args=args, keywords=[]):
                self._call(func, args, depth)
            case _:
                raise self._refused(f"{self._part(node)} is not allowed here")

    def _children(self, depth: int, *nodes: ast.AST) -> None:
        for child in nodes:
            self.check(child, depth + 1)

    def _attribute(self, node: ast.Attribute) -> None:
        try:
            name = dotted(node)
        except RecursionError:
            raise _too_deep(self.text) from None
        if name is None:
            raise self._refused(f"{self._part(node)} is not allowed here")
        self.names.setdefault(name)

    def _compare(self, ops: list[ast.cmpop], operands: tuple[ast.expr, ...], depth: int) -> None:
        if not all(type(op) in _COMPARISONS for op in ops):
            raise self._refused("'in' and 'is' are not allowed")
        equality = all(isinstance(op, ast.Eq | ast.NotEq) for op in ops)
        for operand in operands:
            self._precedence(operand)
            self.check(operand, depth + 1, text_allowed=equality)

    def _call(self, func: ast.expr, args: list[ast.expr], depth: int) -> None:
        name = func.id if isinstance(func, ast.Name) else None
        known = _functions.SIGNATURES
        if name is None or name not in known:
            called = f"'{name}'" if name else self._part(func)
            hint = nearest(name, known) if name else ""
            raise self._refused(f"no function {called}.{hint} Known: {', '.join(sorted(known))}")
        try:
            _functions.check_arguments(name, len(args))
        except InputError as error:
            raise self._refused(str(error)) from error
        for i, argument in enumerate(args):
            self.check(argument, depth + 1, text_allowed=name == "fill" and i == 1)

    def _precedence(self, operand: ast.AST) -> None:
        """Refuse ``a > 1 & b < 2``, which Python reads as ``a > (1 & b) < 2``."""
        if not (isinstance(operand, ast.BinOp) and isinstance(operand.op, BITWISE)):
            return
        before = self.source[: operand.col_offset].rstrip()
        after = self.source[operand.end_col_offset :].lstrip()
        if not (before.endswith(b"(") and after.startswith(b")")):
            raise self._refused(
                "'&' and '|' bind tighter than comparisons; write 'and' and 'or', or put each "
                "comparison in brackets"
            )

    def _index(self, index: ast.AST) -> None:
        """Refuse indices that would pick or drop whole events."""
        first = index.elts[0] if isinstance(index, ast.Tuple) and index.elts else index
        if isinstance(first, ast.Slice):
            whole = first.lower is None and first.upper is None and first.step is None
        else:
            whole = first is index and not isinstance(first, ast.Constant | ast.UnaryOp)
        if not whole:
            raise self._refused(
                f"{self._part(index, brackets=True)} would pick events; the first index counts "
                "events and must be ':', as in jet_pt[:, 0]"
            )

    def _part(self, node: ast.AST, *, brackets: bool = False) -> str:
        """Return the source of a node for a message."""
        start, stop = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", None)
        found = shown(self.source[start:stop].decode(errors="replace"))
        return f"'[{found}]'" if brackets else f"'{found}' ({type(node).__name__})"

    def _refused(self, why: str) -> InputError:
        return InputError(f"expression '{shown(self.text)}': {why}")
