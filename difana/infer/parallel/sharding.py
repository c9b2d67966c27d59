"""Many points at once: a leading axis spread over the devices of one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from difana._errors import ConfigError, InputError
from difana._options import whole_number
from difana._progress import ProgressBar
from difana._typing import PyTree

_AXIS = "points"


def map_points(
    function: Callable[..., PyTree],
    points: PyTree,
    *,
    constants: tuple = (),
    devices: Sequence[Any] | Mesh | None = None,
    chunk: int | None = None,
    progress: bool = False,
) -> PyTree:
    """Apply a function to every point of a batch, on all devices of this machine.

    The points (signal models, tested values, toys, held parameters) are the leading axis of every
    array in ``points``; a batched :class:`Model` is such a tree. Each device works through its
    share without waiting for the others. Shares are filled up with repetitions of the last point,
    which are dropped again. One compilation serves all chunks, and later calls with the same
    function object.

    Args:
        function: ``function(point, *constants)``; it is compiled and mapped with ``jax.vmap``.
        points: Tree of arrays with one leading axis.
        constants: Further arguments, the same for all points.
        devices: Devices, or a mesh with one axis; all local devices by default.
        chunk: Number of points evaluated at once by all devices together; all by default. Less
            needs less memory, and lets fast points not wait for slow ones.
        progress: Show a progress bar on a terminal.

    Returns:
        The results, stacked: NumPy arrays.

    Raises:
        InputError: If the arrays differ in length, or there is none.
        ConfigError: If the chunk is not positive or the mesh has several axes.

    Example:
        >>> import numpy as np
        >>> map_points(lambda x, a: a * x**2, np.arange(5.0), constants=(2.0,)).tolist()
        [0.0, 2.0, 8.0, 18.0, 32.0]
    """
    number = number_of(points)
    parts: list[PyTree] = []
    work = iterate_chunks(
        _Mapped(function), points, constants=constants, devices=devices, chunk=chunk
    )
    with ProgressBar("points", total=number, enabled=progress) as bar:
        for start, stop, part in work:
            parts.append(part)
            bar.advance(stop - start)
    return join(parts)


class _Mapped(eqx.Module):
    """A function of one point as a function of many; equal for equal functions."""

    function: Callable[..., PyTree]

    def __call__(self, points: PyTree, *constants: Any) -> PyTree:
        return jax.vmap(lambda point: self.function(point, *constants))(points)


def number_of(points: PyTree) -> int:
    """Return the length of the leading axis that all arrays share.

    Raises:
        InputError: If there is no array, or lengths differ.

    Example:
        >>> number_of({"mu": np.ones(3), "x": np.ones((3, 2))})
        3
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(points)]
    lengths = {shape[0] if shape else None for shape in shapes}
    if len(lengths) != 1 or lengths & {None, 0}:
        raise InputError(
            f"points have arrays of shapes {sorted(set(map(str, shapes)))}: every one needs the "
            "same leading axis, with at least one entry; give what they share as constants"
        )
    return int(lengths.pop() or 0)


def join(parts: Sequence[PyTree]) -> PyTree:
    """Join results of consecutive chunks along their leading axis."""
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def chunks(points: PyTree, size: int) -> Iterator[tuple[int, int, PyTree]]:
    """Yield ``(start, stop, points)`` of equal size, the last filled up with its last point."""
    number = number_of(points)
    for start in range(0, number, size):
        index = np.minimum(np.arange(start, start + size), number - 1)
        part = jax.tree.map(lambda leaf, index=index: leaf[index], points)
        yield start, min(start + size, number), part


def iterate_chunks(
    function: Callable[..., PyTree],
    points: PyTree,
    *,
    constants: tuple = (),
    devices: Sequence[Any] | Mesh | None = None,
    chunk: int | None = None,
) -> Iterator[tuple[int, int, PyTree]]:
    """Yield ``(start, stop, results)`` chunk by chunk; the function takes a batch of points.

    See :func:`map_points` for the arguments.
    """
    mesh = _mesh(devices)
    size = chunk_size(number_of(points), chunk, workers=mesh.devices.size)
    for start, stop, part in chunks(points, size):
        placed = jax.device_put(part, NamedSharding(mesh, PartitionSpec(_AXIS)))
        results = _run(function, placed, constants, mesh)
        yield start, stop, jax.tree.map(lambda leaf, n=stop - start: np.asarray(leaf)[:n], results)


def chunk_size(number: int, chunk: int | None, *, workers: int) -> int:
    """Return the number of points of a chunk: a multiple of the number of workers."""
    chunk = None if chunk is None else whole_number("chunk", chunk)
    wanted = number if chunk is None else min(chunk, number)
    return -(-wanted // workers) * workers


def device_list(devices: Sequence[Any] | Mesh | None) -> list[Any]:
    """Return the devices: all local ones for None, those of a mesh with one axis."""
    if isinstance(devices, Mesh):
        if len(devices.axis_names) != 1:
            raise ConfigError(
                f"mesh with axes {devices.axis_names}: points are spread over one axis; "
                "give jax.make_mesh((devices,), ('points',))"
            )
        found = list(devices.devices.ravel())
    else:
        found = jax.local_devices() if devices is None else list(devices)
    if not found:
        raise ConfigError("no devices: leave `devices` out for all of this machine")
    return found


def _mesh(devices: Sequence[Any] | Mesh | None) -> Mesh:
    return Mesh(np.array(device_list(devices)), (_AXIS,))


@eqx.filter_jit
def _run(function: Callable, points: PyTree, constants: tuple, mesh: Mesh) -> PyTree:
    if mesh.devices.size == 1:
        return function(points, *constants)
    arrays, rest = eqx.partition((function, constants), eqx.is_array)

    def local(points: PyTree, arrays: PyTree) -> PyTree:
        own, others = eqx.combine(arrays, rest)
        return own(points, *others)

    # not left to the compiler: it would make the loops of all devices wait for each other
    spread = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(_AXIS), PartitionSpec()),
        out_specs=PartitionSpec(_AXIS),
        check_vma=False,
    )
    return spread(points, arrays)
