"""One program on several devices: each works on some of the replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from difana._errors import InputError
from difana._typing import PyTree

AXIS = "replicas"
FIRST, SECOND = PartitionSpec(AXIS), PartitionSpec(None, AXIS)
"""Outputs whose first, or second, axis is that of the replicas."""


def spread(
    function: Callable[[PyTree, PyTree], PyTree],
    own: PyTree,
    shared: PyTree,
    *,
    devices: Sequence[Any],
    out: Any = FIRST,
) -> PyTree:
    """Return ``function(own, shared)``, computed by several devices; for use inside ``jit``.

    Args:
        function: The work on some replicas.
        own: PyTree whose arrays have a leading axis of replicas.
        shared: What all replicas see.
        devices: The devices.
        out: ``FIRST`` or ``SECOND`` of each output, as a prefix of their tree.

    Raises:
        InputError: If the replicas cannot be spread evenly.
    """
    mesh = Mesh(np.array(devices), (AXIS,))
    number = len(jax.tree.leaves(own)[0])
    if number % mesh.devices.size:
        raise InputError(
            f"{number} networks cannot be spread evenly over {mesh.devices.size} devices: choose"
            " a number of replicas that it divides"
        )
    mine, fixed = eqx.partition(own, eqx.is_array)
    arrays, rest = eqx.partition(shared, eqx.is_array)

    def local(mine: PyTree, arrays: PyTree) -> PyTree:
        return function(eqx.combine(mine, fixed), eqx.combine(arrays, rest))

    # not left to the compiler: it would make the epochs of all devices wait for each other
    return jax.shard_map(
        local, mesh=mesh, in_specs=(FIRST, PartitionSpec()), out_specs=out, check_vma=False
    )(mine, arrays)
