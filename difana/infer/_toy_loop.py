"""The loop behind everything with toys: draw, fit, compare; in chunks, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from difana._errors import ConfigError, ModelError
from difana.infer._progress import Progress
from difana.infer._toy_file import ToyFile
from difana.infer.fit import FitResult, solve
from difana.infer.sampling import sample_one
from difana.infer.sharding import iterate_chunks
from difana.infer.status import Status, trustworthy
from difana.likelihood import Model

STATISTICS = ("qtilde", "qmu", "q0", "tmu", "tmu_tilde")
_FIRST = 16  # Newton steps at once; nearly all toys need fewer
_STRAGGLERS = 16  # one place for those that need more, for so many toys


class Question(NamedTuple):
    """What is asked of every data set: static, so that it is compiled in."""

    statistic: str
    tested: tuple[int, ...]  # positions of the tested parameters
    max_steps: int = 100

    @property
    def physical(self) -> bool:
        """True if the best fit of tested parameters may not be negative."""
        return self.statistic in ("qtilde", "q0", "tmu_tilde")

    @property
    def one_sided(self) -> bool:
        """True if a best fit above the tested value does not count against it."""
        return self.statistic in ("qtilde", "qmu")


def question(model: Model, statistic: str, names: Sequence[str] | None = None) -> Question:
    """Check and return what is asked.

    Raises:
        ConfigError: If there is no such statistic.
        ModelError: If a tested parameter does not exist, or the model forbids negative values
            that the statistic needs.
    """
    if statistic not in STATISTICS:
        raise ConfigError(f"no statistic '{statistic}'; there are {list(STATISTICS)}")
    tested = (model.poi_index,) if names is None else tuple(model.index(name) for name in names)
    asked = Question(statistic, tested)
    if names is None and not asked.physical and float(model.lower[tested[0]]) >= 0:
        name = model.parameters[tested[0]]
        raise ModelError(
            f"{statistic} needs a '{name}' that may be negative: set its lower bound below zero, "
            "or use its variant with a tilde"
        )
    return asked


def _setting(
    model: Model, asked: Question
) -> tuple[Bool[Array, "2 params"], Float[Array, " params"], Float[Array, " params"]]:
    """Return what is held in the free and the conditional fit, and the bounds of the free one."""
    index = jnp.asarray(asked.tested)
    held = jnp.stack([model.fixed, model.fixed.at[index].set(True)])
    lower, upper = model.lower, model.upper
    if asked.physical:
        lower = lower.at[index].set(0.0)
    if len(asked.tested) == 1:
        upper = upper.at[index].set(jnp.inf)  # a best fit cut off would falsify the statistic
    return held, lower, upper


def _fit(
    model: Model, data: Array, values: Array, held: Array, asked: Question, max_steps: int
) -> FitResult:
    _, lower, upper = _setting(model, asked)
    return solve(model, data, values, held=held, lower=lower, upper=upper, max_steps=max_steps)


def _value(asked: Question, best: Array, tested: Array, free: Array, held: Array) -> Array:
    """Return the statistic from the half deviances of the free and the conditional fit."""
    ratio = jnp.maximum(2.0 * (held - free), 0.0)
    return jnp.where(best[0] <= tested[0], ratio, 0.0) if asked.one_sided else ratio


def _one(
    model: Model, data: Array, tested: Array, asked: Question, max_steps: int
) -> tuple[Array, Array, Array]:
    """Return statistic, best fit of the tested parameters and status of one data set.

    Fits start at the starting values, as the fits to the data do: of two minima both find the
    same, so that the statistic is one function of the data.
    """
    index = jnp.asarray(asked.tested)
    held, _, _ = _setting(model, asked)
    values = jnp.stack([model.init, model.init.at[index].set(tested)])
    both = jax.vmap(lambda v, h: _fit(model, data, v, h, asked, max_steps))(values, held)
    best = both.params[0, index]
    value = _value(asked, best, tested, both.half_deviance[0], both.half_deviance[1])
    status = both.status[0] | both.status[1]
    broken = ~jnp.isfinite(value)
    status = status | jnp.where(broken, int(Status.NOT_FINITE), 0).astype(status.dtype)
    return value, best, status


def toy_statistics(
    model: Model,
    data: Float[Array, "toys data"],
    tested: Float[Array, "toys tested"],
    *,
    asked: Question,
) -> tuple[Float[Array, " toys"], Float[Array, "toys tested"], Int[Array, " toys"]]:
    """Return statistic, best fit and status of many data sets, inside jit.

    All fits take their steps together, so the slowest would set the pace: the few that need many
    steps are fitted again from the start, in small groups of their own.
    """
    number = data.shape[0]
    fitted = jax.vmap(lambda d, t: _one(model, d, t, asked, min(_FIRST, asked.max_steps)))(
        data, tested
    )
    if asked.max_steps <= _FIRST:
        return fitted
    places = max(1, number // _STRAGGLERS)

    def again(state: tuple) -> tuple:
        fitted, todo = state
        index = jnp.nonzero(todo, size=places, fill_value=number)[0]
        safe = jnp.minimum(index, number - 1)
        better = jax.vmap(lambda d, t: _one(model, d, t, asked, asked.max_steps))(
            data[safe], tested[safe]
        )
        fitted = jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), fitted, better)
        return fitted, todo.at[index].set(False, mode="drop")

    bad = int(Status.NOT_CONVERGED | Status.NOT_FINITE | Status.INDEFINITE)
    state = (fitted, (fitted[2] & bad) != 0)
    return jax.lax.while_loop(lambda state: jnp.any(state[1]), again, state)[0]


class _Draw(eqx.Module):
    """Draw and fit a chunk of toys: one compiled program, whatever is drawn or tested."""

    asked: Question = eqx.field(static=True)
    key_kind: str = eqx.field(static=True)

    def __call__(self, points: dict[str, Array], model: Model, key: Array) -> tuple[Array, ...]:
        base = jax.random.wrap_key_data(key, impl=self.key_kind)

        def draw(row: Array, toy: Array, params: Array) -> Array:
            own = jax.random.fold_in(jax.random.fold_in(base, row), toy)
            return sample_one(model, params, key=own)

        data = jax.vmap(draw)(points["row"], points["toy"], points["params"])
        return toy_statistics(model, data, points["tested"], asked=self.asked)


class Observed(eqx.Module):
    """Fits to the data: where toys are drawn, and the observed statistics."""

    params: Float[Array, "rows params"]
    statistic: Float[Array, " rows"]
    best: Float[Array, " tested"]
    status: Int[Array, " rows"]
    free_status: Int[Array, ""]


@eqx.filter_jit
def observe(
    model: Model,
    data: Float[Array, " data"],
    tested: Float[ArrayLike, "rows tested"],
    asked: Question,
) -> Observed:
    """Return the conditional fits at every row of tested values, and the statistics there."""
    index = jnp.asarray(asked.tested)
    masks, _, _ = _setting(model, asked)
    tested = jnp.asarray(tested)
    rows = tested.shape[0]
    at_rows = jnp.broadcast_to(model.init, (rows, model.init.size)).at[:, index].set(tested)
    values = jnp.concatenate([model.init[None], at_rows])
    held = jnp.concatenate([masks[:1], jnp.broadcast_to(masks[1], at_rows.shape)])
    fits = jax.vmap(lambda v, h: _fit(model, data, v, h, asked, asked.max_steps))(values, held)
    best = fits.params[0, index]
    statistic = jax.vmap(lambda t, h: _value(asked, best, t, fits.half_deviance[0], h))(
        tested, fits.half_deviance[1:]
    )
    return Observed(fits.params[1:], statistic, best, fits.status[1:], fits.status[0])


def fine(status: Any) -> np.ndarray:
    """Return True where a fit can be trusted."""
    return np.asarray(trustworthy(jnp.asarray(status)))


def joined(status: Any) -> int:
    """Return all flags of many fits; a parameter at its bound is common among toys."""
    return int(np.bitwise_or.reduce(np.ravel(status))) & ~int(Status.AT_BOUND)


class Toys(NamedTuple):
    """Results of all toys, by row and number."""

    statistic: np.ndarray  # [rows, toys]
    best: np.ndarray  # [rows, toys, tested]
    status: np.ndarray  # [rows, toys]


def fingerprint(model: Model, *parts: Any) -> str:
    """Return a hash of a model and of everything else that decides the result."""
    sha = hashlib.sha256(model.structure.digest.encode())
    for leaf in jax.tree.leaves((model, parts)):
        array = np.asarray(leaf)
        sha.update(f"{array.shape}{array.dtype}".encode())
        sha.update(array.tobytes() if array.dtype.kind in "biuf" else str(array).encode())
    return sha.hexdigest()


def run_toys(
    model: Model,
    params: Float[np.ndarray, "rows params"],
    tested: Float[np.ndarray, "rows tested"],
    *,
    asked: Question,
    number: int,
    key: PRNGKeyArray,
    first_row: int = 0,
    chunk: int = 1000,
    devices: Any = None,
    client: Any = None,
    file: str | Path | None = None,
    progress: bool = False,
) -> Toys:
    """Draw ``number`` toys at every row of parameters, fit and compare with the tested values.

    Toy ``i`` of row ``r`` depends on the key, ``r`` and ``i`` alone: neither chunks nor devices
    nor interruptions change it.
    """
    if number < 1:
        raise ConfigError(f"number = {number}: at least one toy is needed")
    rows, size = tested.shape
    impl, key_data = str(jax.random.key_impl(key)), np.asarray(jax.random.key_data(key))
    store = None
    empty = Toys(
        np.full((rows, number), np.nan),
        np.full((rows, number, size), np.nan),
        np.full((rows, number), -1, np.int32),
    )
    if file is not None:
        mark = fingerprint(model, params, tested, key_data, impl, first_row, *asked)
        store = ToyFile(Path(file), mark)
    found = empty if store is None else store.load(empty)
    missing = np.argwhere(found.status < 0)
    # all rows of a toy in turn: an interrupted run holds about as many toys of every row
    missing = missing[np.lexsort((missing[:, 0], missing[:, 1]))]
    function = _Draw(asked, impl)
    with Progress("toys", total=rows * number, done=rows * number - len(missing),
                  enabled=progress) as bar:  # fmt: skip
        try:
            for part, results in _work(
                function, missing, params, tested, first_row, (model, key_data),
                chunk=chunk, devices=devices, client=client,
            ):  # fmt: skip
                where = tuple(part.T)
                found.statistic[where], found.best[where], found.status[where] = results
                bar.advance(len(part))
                if store is not None:
                    store.save(found)
        finally:
            if store is not None and len(missing):
                store.save(found, now=True)
    return found


def _work(
    function: _Draw,
    missing: np.ndarray,
    params: np.ndarray,
    tested: np.ndarray,
    first_row: int,
    constants: tuple,
    *,
    chunk: int,
    devices: Any,
    client: Any,
) -> Iterator[tuple[np.ndarray, tuple]]:
    """Yield toys and their results, chunk by chunk, in any order."""
    if not len(missing):
        return
    row, toy = missing.T
    points = {
        "row": (first_row + row).astype(np.uint32),
        "toy": toy.astype(np.uint32),
        "params": params[row],
        "tested": tested[row],
    }
    if client is None:
        work = iterate_chunks(function, points, constants=constants, devices=devices, chunk=chunk)
    else:
        from difana.infer.distributed import iterate_tasks

        work = iterate_tasks(function, points, client=client, constants=constants, chunk=chunk)
    for start, stop, results in work:
        yield missing[start:stop], results
