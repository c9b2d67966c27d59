"""What must be equal for a checkpoint to be continued."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import PRNGKeyArray

from difana._typing import PyTree
from difana.data.batches import BatchSampler, key_words
from difana.data.samples import Sample
from difana.train._loop import Draw
from difana.train.checkpoint import pack_leaves
from difana.train.rows import RowSampler
from difana.train.step import TrainState

_NAMES_AND_PLACES = frozenset(
    {"name", "ctx_mesh", "resource_env", "in_shardings", "out_shardings", "in_layouts",
     "out_layouts", "donated_invars", "keep_unused", "compiler_options_kvs"}
)  # fmt: skip
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def fingerprint_of(
    options: dict[str, Any],
    state: TrainState,
    fixed: PyTree,
    draw: Draw,
    program: ClosedJaxpr,
    *,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    """Return JSON values that describe the training: options, key, leaves, batches, program.

    Loss and optimizer enter as the program that JAX traces of a step, with every number in it: it
    differs for another loss, learning rate, schedule or constant of a closure, and is the same for
    a function that was only moved or renamed. Names of samples and regions do not enter.
    """
    facts = {
        **options,
        "jax": jax.__version__,
        "key": key_words(key),
        **_facts_of(draw),
        "loss or optimizer (program of a step)": digest_of(program),
        "trained": _shapes(state.trained),
        "optimizer": _shapes(state.optimizer),
        **({} if state.memory is None else {"memory": _shapes(state.memory)}),
        "checksum of the initial trainable": _checksum(state.trained),
        "checksum of the untrained arrays": _checksum((fixed, state.memory)),
    }
    return json.loads(json.dumps(facts))


def _facts_of(draw: Draw) -> dict[str, Any]:
    """Return what is known of the batches: where they come from, or else the first of them."""
    if isinstance(draw, BatchSampler):
        samples = {str(i): _described(sample) for i, sample in enumerate(draw.samples)}
        return {"batch_size": draw.size, "samples": samples}
    if isinstance(draw, RowSampler):
        rows = f"{draw.length} rows, checksum {_checksum(draw.rows):08x}"
        return {"batch_size": draw.size, "rows": rows}
    facts = getattr(draw, "facts", None)
    return {"first batch": f"{_checksum(draw(0)):08x}"} if facts is None else {"draw": facts()}


def _described(sample: Sample) -> str:
    total = np.sum(np.asarray(sample.nominal.weights, np.float64))
    return f"{len(sample.nominal)} events, yield {total:.9g}, checksum {_checksum(sample):08x}"


def _checksum(tree: PyTree) -> int:
    found = 0
    for vector in pack_leaves(jax.tree.map(jnp.asarray, tree)).values():
        found = zlib.crc32(vector.tobytes(), found)
    return found


def _shapes(tree: PyTree) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def digest_of(program: ClosedJaxpr) -> str:
    """Return a short hash of a traced program and of all constants in it.

    Names of functions and variables and the devices do not matter.

    Example:
        >>> import jax
        >>> one, two = (jax.make_jaxpr(lambda x, rate=rate: x * rate)(1.0) for rate in (0.1, 0.2))
        >>> digest_of(one) == digest_of(one) != digest_of(two)
        True
    """
    found = hashlib.sha256()
    for part in _closed(program):
        found.update(part if isinstance(part, bytes) else part.encode())
        found.update(b"\0")
    return found.hexdigest()[:16]


def _closed(program: ClosedJaxpr) -> Iterable[str | bytes]:
    yield from _jaxpr(program.jaxpr)
    for constant in program.consts:
        yield from _value(constant)


def _jaxpr(jaxpr: Jaxpr) -> Iterable[str | bytes]:
    numbers: dict[Any, int] = {}

    def define(variables: Iterable[Any]) -> Iterable[str]:
        for variable in variables:
            numbers[variable] = len(numbers)
            yield f"{variable.aval.str_short()}"

    def use(atoms: Iterable[Any]) -> Iterable[str | bytes]:
        for atom in atoms:
            if isinstance(atom, Literal):
                yield from _value(atom.val)
            else:
                yield str(numbers[atom])

    yield from define(jaxpr.constvars)
    yield from define(jaxpr.invars)
    for equation in jaxpr.eqns:
        yield str(equation.primitive)
        yield from use(equation.invars)
        for key in sorted(equation.params):
            if key not in _NAMES_AND_PLACES:
                yield key
                yield from _value(equation.params[key])
        yield from define(equation.outvars)
    yield from use(jaxpr.outvars)


def _value(value: Any) -> Iterable[str | bytes]:
    if isinstance(value, ClosedJaxpr):
        yield from _closed(value)
    elif isinstance(value, Jaxpr):
        yield from _jaxpr(value)
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        yield f"{array.dtype}{array.shape}"
        yield array.tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key)
            yield from _value(value[key])
    elif isinstance(value, list | tuple):
        yield f"{len(value)} values"
        for entry in value:
            yield from _value(entry)
    elif callable(value) and not isinstance(value, type):  # what it does stands in the program
        yield "a function"
    else:
        yield _ADDRESS.sub("", repr(value))
