"""Many points at once: chunks as tasks of a dask.distributed cluster."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from difana._errors import ConfigError
from difana._progress import ProgressBar
from difana._typing import PyTree
from difana.infer.parallel.sharding import (
    _Mapped,
    chunk_size,
    chunks,
    iterate_chunks,
    join,
    number_of,
)

_ATTEMPTS = 5


def map_points_distributed(
    function: Callable[..., PyTree],
    points: PyTree,
    *,
    client: Any,
    constants: tuple = (),
    chunk: int | None = None,
    progress: bool = False,
) -> PyTree:
    """Apply a function to every point of a batch, on the workers of a cluster.

    The same as :func:`map_points`, with chunks as tasks. A task is known by the number of its
    chunk and depends on its arguments alone: if a worker dies, its tasks run again elsewhere, and
    every chunk enters the result exactly once.

    Args:
        function: ``function(point, *constants)``; each worker compiles it once.
        points: Tree of arrays with one leading axis.
        client: A ``dask.distributed.Client`` (extra ``dist``).
        constants: Further arguments, the same for all points.
        chunk: Points in a task; by default two tasks for every worker.
        progress: Show a progress bar on a terminal.

    Returns:
        The results, stacked: NumPy arrays.

    Raises:
        InputError: If the arrays differ in length, or there is none.
        ConfigError: If the chunk is not positive, or a task still dies with its workers after
            several attempts.

    Example:
        >>> from distributed import Client                              # doctest: +SKIP
        >>> map_points_distributed(lambda x: x**2, np.arange(5.0), client=Client())
        ...                                                             # doctest: +SKIP
        array([ 0.,  1.,  4.,  9., 16.])
    """
    parts: dict[int, PyTree] = {}
    work = iterate_tasks(_Mapped(function), points, client=client, constants=constants, chunk=chunk)
    with ProgressBar("points", total=number_of(points), enabled=progress) as bar:
        for start, stop, part in work:
            parts[start] = part
            bar.advance(stop - start)
    return join([parts[start] for start in sorted(parts)])


class _Key(NamedTuple):
    """A random key as numbers: keys themselves cannot be sent."""

    data: np.ndarray
    kind: str


def _packed(tree: PyTree) -> PyTree:
    """Return the tree with NumPy arrays, which need no device at the other end."""

    def pack(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return _Key(np.asarray(jax.random.key_data(leaf)), str(jax.random.key_impl(leaf)))
        return np.asarray(leaf)

    return jax.tree.map(pack, tree)


def _unpacked(tree: PyTree) -> PyTree:
    def unpack(leaf: Any) -> Any:
        if isinstance(leaf, _Key):
            return jax.random.wrap_key_data(jnp.asarray(leaf.data), impl=leaf.kind)
        return leaf

    return jax.tree.map(unpack, tree, is_leaf=lambda leaf: isinstance(leaf, _Key))


def _task(packed: PyTree, *, x64: bool) -> PyTree:
    """Evaluate one chunk, on a worker."""
    with jax.enable_x64(x64):
        function, points, constants = _unpacked(packed)
        results = list(
            iterate_chunks(function, points, constants=constants, devices=jax.local_devices()[:1])
        )
    return results[0][2]


def iterate_tasks(
    function: Callable[..., PyTree],
    points: PyTree,
    *,
    client: Any,
    constants: tuple = (),
    chunk: int | None = None,
) -> Iterator[tuple[int, int, PyTree]]:
    """Yield ``(start, stop, results)`` as tasks end, in any order, each chunk exactly once.

    See :func:`map_points_distributed`; the function takes a batch of points.
    """
    from distributed.client import as_completed
    from distributed.scheduler import KilledWorker

    number = number_of(points)
    workers = max(len(client.scheduler_info()["workers"]), 1)
    size = chunk_size(number, -(-number // (2 * workers)) if chunk is None else chunk, workers=1)
    x64 = bool(jax.config.read("jax_enable_x64"))
    run = uuid.uuid4().hex
    function, constants = _packed((function, constants))
    places: dict[str, tuple[int, int, PyTree, int]] = {}

    def submit(start: int, stop: int, part: PyTree, attempt: int) -> Any:
        name = f"difana-{run}-{start}-{attempt}"
        places[name] = (start, stop, part, attempt)
        return client.submit(_task, (function, part, constants), x64=x64, key=name, pure=False)

    running = as_completed(
        [submit(start, stop, _packed(part), 0) for start, stop, part in chunks(points, size)]
    )
    try:
        for future in running:
            place = places.pop(future.key, None)
            if place is None:  # told twice
                continue
            start, stop, part, attempt = place
            try:
                results = future.result()
            except KilledWorker as error:  # dask gives up after some workers died with the task
                if attempt + 1 == _ATTEMPTS:
                    raise ConfigError(
                        f"points {start} to {stop - 1}: their workers died {_ATTEMPTS} times; "
                        "give a smaller chunk, or workers with more memory"
                    ) from error
                running.add(submit(start, stop, part, attempt + 1))
                continue
            yield start, stop, jax.tree.map(lambda leaf, n=stop - start: leaf[:n], results)
    finally:
        client.cancel([future for future in running.futures], force=True)  # noqa: C416
