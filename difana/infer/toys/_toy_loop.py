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
from difana._options import whole_number
from difana._progress import ProgressBar
from difana._status import Status, flag, trustworthy
from difana.infer.fit import solve
from difana.infer.fit_result import FitResult
from difana.infer.parallel.sharding import iterate_chunks
from difana.infer.statistics import excluded
from difana.infer.toys._toy_file import ToyFile, Toys
from difana.infer.toys.sampling import sample_one
from difana.likelihood import Model

STATISTICS = ("qtilde", "qmu", "q0", "tmu", "tmu_tilde")
_GROUP = 256  # toys whose fits take their steps together
_STEPS = 32  # steps at once; nearly all toys need fewer
_TRIES = 100
# what is wrong with the parameters of a toy does not matter to its statistic
_HARMLESS = Status.AT_BOUND | Status.NO_INFLUENCE | Status.INDEFINITE | Status.IMPOSSIBLE


class StatisticKind(eqx.Module):
    """What is asked of every data set; one compiled program serves all statistics.

    Attributes:
        physical: True if the best fit of tested parameters may not be negative.
        one_sided: True if a best fit above the tested value does not count against it.
        tested: Positions of the tested parameters (static).
    """

    physical: Bool[Array, ""]
    one_sided: Bool[Array, ""]
    tested: tuple[int, ...] = eqx.field(static=True)


def statistic_kind(
    model: Model, statistic: str, names: Sequence[str] | None = None
) -> StatisticKind:
    """Check a statistic and return what it asks.

    Raises:
        ConfigError: If there is no such statistic.
        ModelError: If a tested parameter does not exist, or the model forbids negative values
            that the statistic needs.
    """
    if statistic not in STATISTICS:
        raise ConfigError(f"no statistic '{statistic}'; there are {list(STATISTICS)}")
    tested = (model.poi_index,) if names is None else tuple(model.index(name) for name in names)
    physical = statistic in ("qtilde", "q0", "tmu_tilde")
    if names is None and not physical and float(model.lower[tested[0]]) >= 0:
        name = model.parameters[tested[0]]
        raise ModelError(
            f"{statistic} needs a '{name}' that may be negative: set its lower bound below zero, "
            "or use its variant with a tilde"
        )
    return StatisticKind(jnp.array(physical), jnp.array(statistic in ("qtilde", "qmu")), tested)


def _setting(
    model: Model, asked: StatisticKind
) -> tuple[Bool[Array, "2 params"], Float[Array, " params"], Float[Array, " params"]]:
    """Return what is held in the free and the conditional fit, and the bounds of the free one."""
    index = jnp.asarray(asked.tested)
    held = jnp.stack([model.fixed, model.fixed.at[index].set(True)])
    lower, upper = model.lower, model.upper
    lower = lower.at[index].set(jnp.where(asked.physical, 0.0, lower[index]))
    if len(asked.tested) == 1:
        upper = upper.at[index].set(jnp.inf)  # a best fit cut off would falsify the statistic
    return held, lower, upper


def _fit(
    model: Model, data: Array, values: Array, held: Array, asked: StatisticKind, max_steps: int
) -> FitResult:
    _, lower, upper = _setting(model, asked)
    return solve(model, data, values, held=held, lower=lower, upper=upper, max_steps=max_steps)


def _value(
    asked: StatisticKind, best: Array, tested: Array, deviances: Array, status: Array
) -> Array:
    """Return the statistic from half deviances and status of the free and the conditional fit."""
    ratio = jnp.maximum(2.0 * (deviances[1] - deviances[0]), 0.0)
    ratio = excluded(ratio, status[1], status[0])
    return jnp.where(asked.one_sided & (best[0] > tested[0]), 0.0, ratio)


class _Fits(NamedTuple):
    """The free and the conditional fit of every toy, as far as they got."""

    params: Array  # [toys, 2, params]
    half_deviance: Array  # [toys, 2]
    status: Array  # [toys, 2]
    tries: Array  # [toys]

    @property
    def open(self) -> Array:
        stopped = jnp.any((self.status & int(Status.NOT_CONVERGED)) != 0, axis=1)
        finite = jnp.all(jnp.isfinite(self.half_deviance), axis=1)
        return (self.tries == 0) | (stopped & finite & (self.tries < _TRIES))


def toy_statistics(
    model: Model,
    data: Float[Array, "toys data"],
    tested: Float[Array, "toys tested"],
    *,
    asked: StatisticKind,
) -> tuple[Float[Array, " toys"], Float[Array, "toys tested"], Int[Array, " toys"]]:
    """Return statistic, best fit and status of many data sets, inside jit.

    Fits start at the starting values, as the fits to the data do: of two minima both find the
    same, so that the statistic is one function of the data. The fits of a group take their steps
    together and the slowest sets the pace, so groups are small, and fits that need many steps go
    on later, in a group of their own kind.
    """
    number = data.shape[0]
    size = min(number, _GROUP)
    index = jnp.asarray(asked.tested)
    held, _, _ = _setting(model, asked)
    free = jnp.broadcast_to(model.init, (number, model.init.size))
    params = jnp.stack([free, free.at[:, index].set(tested)], axis=1)

    def one(data: Array, values: Array) -> tuple[Array, Array, Array]:
        both = jax.vmap(lambda v, h: _fit(model, data, v, h, asked, _STEPS))(values, held)
        return both.params, both.half_deviance, both.status

    def group(fits: _Fits) -> _Fits:
        fresh = fits.tries == 0
        chosen = jnp.where(jnp.any(fresh), fresh, fits.open)
        places = jnp.nonzero(chosen, size=size, fill_value=number)[0]
        some = jnp.minimum(places, number - 1)
        new = _Fits(*jax.vmap(one)(data[some], fits.params[some]), fits.tries[some] + 1)
        return jax.tree.map(lambda old, new: old.at[places].set(new, mode="drop"), fits, new)

    whole = jnp.zeros((number, 2), jnp.int32)
    start = _Fits(params, jnp.full((number, 2), jnp.inf, params.dtype), whole, whole[:, 0])
    fits = jax.lax.while_loop(lambda fits: jnp.any(fits.open), group, start)
    best = fits.params[:, 0, index]
    value = jax.vmap(lambda *args: _value(asked, *args))(
        best, tested, fits.half_deviance, fits.status
    )
    broken = flag(jnp.isnan(value), Status.NOT_FINITE)
    return value, best, fits.status[:, 0] | fits.status[:, 1] | broken


class _Draw(eqx.Module):
    """Draw and fit a chunk of toys: one compiled program, whatever is drawn or tested."""

    key_kind: str = eqx.field(static=True)

    def __call__(
        self, points: dict[str, Array], model: Model, key: Array, asked: StatisticKind
    ) -> tuple[Array, ...]:
        base = jax.random.wrap_key_data(key, impl=self.key_kind)

        def draw(row: Array, toy: Array, params: Array) -> Array:
            own = jax.random.fold_in(jax.random.fold_in(base, row), toy)
            return sample_one(model, params, key=own)

        data = jax.vmap(draw)(points["row"], points["toy"], points["params"])
        return toy_statistics(model, data, points["tested"], asked=asked)


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
    asked: StatisticKind,
) -> Observed:
    """Return the conditional fits at every row of tested values, and the statistics there."""
    index = jnp.asarray(asked.tested)
    masks, _, _ = _setting(model, asked)
    tested = jnp.asarray(tested)
    rows = tested.shape[0]
    at_rows = jnp.broadcast_to(model.init, (rows, model.init.size)).at[:, index].set(tested)
    values = jnp.concatenate([model.init[None], at_rows])
    held = jnp.concatenate([masks[:1], jnp.broadcast_to(masks[1], at_rows.shape)])
    fits = jax.vmap(lambda v, h: _fit(model, data, v, h, asked, _STEPS * _TRIES))(values, held)
    best = fits.params[0, index]
    deviances, status = fits.half_deviance, fits.status
    statistic = jax.vmap(
        lambda t, h, s: _value(
            asked, best, t, jnp.stack([deviances[0], h]), jnp.stack([status[0], s])
        )
    )(tested, deviances[1:], status[1:])
    return Observed(fits.params[1:], statistic, best, fits.status[1:], fits.status[0])


def fine(status: Any) -> np.ndarray:
    """Return True where the values of fits, hence a statistic, can be trusted."""
    return np.asarray(trustworthy(jnp.asarray(status) & ~int(_HARMLESS)))


def joined(status: Any) -> int:
    """Return all flags of many fits that matter to a statistic."""
    return int(np.bitwise_or.reduce(np.ravel(status))) & ~int(_HARMLESS)


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
    asked: StatisticKind,
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
    number = whole_number("number", number)
    rows, size = tested.shape
    impl, key_data = str(jax.random.key_impl(key)), np.asarray(jax.random.key_data(key))
    store = None
    empty = Toys(
        np.full((rows, number), np.nan),
        np.full((rows, number, size), np.nan),
        np.full((rows, number), -1, np.int32),
    )
    if file is not None:
        mark = fingerprint(model, params, tested, key_data, impl, first_row, asked, asked.tested)
        store = ToyFile(Path(file), mark)
    found = empty if store is None else store.load(empty)
    missing = np.argwhere(found.status < 0)
    # all rows of a toy in turn: an interrupted run holds about as many toys of every row
    missing = missing[np.lexsort((missing[:, 0], missing[:, 1]))]
    function = _Draw(impl)
    total = rows * number
    with ProgressBar("toys", total=total, done=total - len(missing), enabled=progress) as bar:
        try:
            for part, results in _work(
                function, missing, params, tested, first_row, (model, key_data, asked),
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
        from difana.infer.parallel.distributed import iterate_tasks

        work = iterate_tasks(function, points, client=client, constants=constants, chunk=chunk)
    for start, stop, results in work:
        yield missing[start:stop], results
