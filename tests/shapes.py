"""Every array annotation of difana is checked in the tests: beartype and jaxtyping.

A call that returns is compared with its annotations: the shapes, types and axis names of all array
arguments and of the result. A call that raises is not, because refusing an input is allowed. Only
annotations of arrays count: wrong texts and numbers are for the functions themselves to refuse.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from beartype.door import is_bearable
from jaxtyping import AnnotationError, jaxtyped

SHAPED = ("Float[", "Int[", "Bool[", "Shaped[", "PRNGKeyArray")
NAME = "_check_annotated_shapes"
# NumPy's arrays are as good as those of JAX, as in JAX itself
ARRAYS = {"Array": jax.Array | np.ndarray, "ArrayLike": jax.Array | np.ndarray}


class Loader(importlib.machinery.SourceFileLoader):
    """Compile a module with the decorator on each function and class that annotates an array."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and _function_has_shapes(node):
                node.decorator_list.append(_decorator(node))
            if isinstance(node, ast.ClassDef) and _class_has_shapes(node):
                node.decorator_list.append(_decorator(node))
        return compile(tree, path, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        setattr(module, NAME, checked)
        super().exec_module(module)


class Finder(importlib.machinery.PathFinder):
    """Find the modules of some rooms of difana, and nothing else."""

    rooms: tuple[str, ...] = ()

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        package, *names = fullname.split(".")
        if package != "difana" or (cls.rooms and not set(names[:1]) & set(cls.rooms)):
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def install(*rooms: str) -> None:
    """Check the modules of these rooms, or all, that are imported from now on."""
    assert not any(name.partition(".")[0] == "difana" for name in sys.modules)
    Finder.rooms = rooms
    sys.meta_path.insert(0, Finder)


def checked(item: Any) -> Any:
    """Return a function or a class (of fields) that compares its arrays with its annotations."""
    return _checked_class(item) if inspect.isclass(item) else _checked_function(item)


def _checked_function(function: Callable) -> Callable:
    signature = inspect.signature(function)
    hints = _Hints(function.__annotations__, function.__globals__)
    check, bind = _check, signature.bind
    where = f"{function.__module__}.{function.__qualname__}"

    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        check(where, hints, bind(*args, **kwargs).arguments | {"return": result}, signature)
        return result

    # the globals of the function: doctest asks them for the module
    wrapper = types.FunctionType(
        call.__code__, function.__globals__, function.__name__, None, call.__closure__
    )
    return functools.update_wrapper(wrapper, function)


def _checked_class(cls: type) -> type:
    if not hasattr(cls, "__dataclass_fields__"):
        return cls
    init, where = cls.__init__, f"{cls.__module__}.{cls.__qualname__}"
    # what is ArrayLike was written by a user; whoever builds something of it refuses what is wrong
    texts = {k: v for k, v in inspect.get_annotations(cls).items() if "ArrayLike" not in str(v)}
    hints = _Hints(texts, vars(sys.modules[cls.__module__]))

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        fields = {name: getattr(self, name) for name in hints.texts if hasattr(self, name)}
        _check(where, hints, fields)

    type.__setattr__(cls, "__init__", __init__)
    return cls


class _Hints:
    """The annotations that name an array, evaluated at the first use."""

    def __init__(self, texts: dict[str, Any], names: dict[str, Any]) -> None:
        self.texts = {
            name: text
            for name, text in texts.items()
            if _has_shape(text) and "ClassVar" not in text
        }
        self.names = names

    @functools.cached_property
    def types(self) -> dict[str, Any]:
        types = {}
        for name, text in self.texts.items():
            try:
                types[name] = eval(text, self.names | ARRAYS)
            except NameError:  # the name of a class that is imported for type checkers alone
                continue
        return types


def _check(
    where: str,
    hints: _Hints,
    values: dict[str, Any],
    signature: inspect.Signature | None = None,
) -> None:
    wrong = []
    with jaxtyped("context"):
        for name, hint in hints.types.items():
            if name not in values:
                continue
            kind = signature.parameters[name].kind if signature and name != "return" else None
            value = values[name]
            if kind == inspect.Parameter.VAR_POSITIONAL:
                held: Sequence[Any] = value
            elif kind == inspect.Parameter.VAR_KEYWORD:
                held = list(value.values())
            else:
                held = [value]
            wrong += [
                f"{name}: {hints.texts[name]} is {_described(one)}"
                for one in held
                if not _fits(one, hint)
                and (name == "return" or not any(_fits(form, hint) for form in _forms(one)))
            ]
    if wrong:
        raise TypeError(f"{where}: " + "; ".join(wrong))


def _fits(value: Any, hint: Any) -> bool:
    try:
        return is_bearable(value, hint)
    except AnnotationError:  # params + 1, where nothing else says what params is
        return True


def _forms(value: Any) -> Iterator[Any]:
    """Yield as what JAX takes an argument: numbers and lists for arrays, 1 for 1.0."""
    if isinstance(value, Mapping):
        yield {name: [one, *_forms(one)][-1] for name, one in value.items()}
    if isinstance(value, list | tuple):
        yield tuple([one, *_forms(one)][-1] for one in value)
    if isinstance(value, int | float | np.generic | list | tuple | np.ndarray | jax.Array):
        try:
            array = value if isinstance(value, jax.Array) else np.asarray(value)
        except ValueError:  # of several lengths
            return
        if array.dtype.kind in "fiub":
            yield array
            yield array.astype(float)


def _described(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    kind = type(value).__name__
    return kind if shape is None else f"{kind} {dtype}{list(shape)}"


def _has_shape(annotation: Any) -> bool:
    return isinstance(annotation, str) and any(word in annotation for word in SHAPED)


def _function_has_shapes(node: ast.FunctionDef) -> bool:
    args = node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    annotations = [arg.annotation for arg in every if arg is not None] + [node.returns]
    return any(_has_shape(ast.unparse(one)) for one in annotations if one is not None)


def _class_has_shapes(node: ast.ClassDef) -> bool:
    return any(
        isinstance(line, ast.AnnAssign) and _has_shape(ast.unparse(line.annotation))
        for line in node.body
    )


def _decorator(node: ast.AST) -> ast.AST:
    return ast.copy_location(ast.Name(id=NAME, ctx=ast.Load()), node)
