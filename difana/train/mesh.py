"""Batches spread over the devices of a mesh, event by event."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from difana._errors import ConfigError
from difana._typing import PyTree
from difana.data.events import Events
from difana.data.samples import Sample
from difana.train.rows import Weighted


def checked_mesh(mesh: Mesh) -> Mesh:
    """Return the mesh with an automatic axis: the compiler places what is not stated.

    Args:
        mesh: A mesh with one axis.

    Returns:
        The mesh of the same devices.

    Raises:
        ConfigError: If it does not have exactly one axis.

    Example:
        >>> import jax
        >>> checked_mesh(jax.make_mesh((1,), ("events",))).axis_names
        ('events',)
    """
    if len(mesh.axis_names) != 1:
        raise ConfigError(
            f"mesh with axes {mesh.axis_names}: events are spread over one axis; "
            "give jax.make_mesh((devices,), ('events',))."
        )
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,))


def pad_batch(batch: PyTree, *, multiple: int) -> PyTree:
    """Pad samples and weighted rows to a multiple of ``multiple`` with some of weight zero.

    The padding repeats the first event, so that no network meets values that it has never seen.

    Args:
        batch: Samples, `difana.train.Weighted` rows, or any other PyTree of rows.
        multiple: Number of devices.

    Returns:
        The padded batch; every sum of weights is the same.

    Raises:
        ConfigError: If rows without weights are no multiple.

    Example:
        >>> import jax.numpy as jnp
        >>> sample = Sample(Events(jnp.ones((3, 1)), jnp.ones(3)), name="signal")
        >>> pad_batch((sample,), multiple=4)[0].nominal.weights.tolist()
        [1.0, 1.0, 1.0, 0.0]
    """

    def pad(node: Any) -> Any:
        if isinstance(node, Sample):
            return _pad_sample(node, multiple)
        if isinstance(node, Weighted):
            missing = -len(node.weights) % multiple
            rows = jax.tree.map(lambda leaf: _pad_rows(leaf, missing), node.rows)
            return Weighted(rows, _pad_weights(node.weights, multiple))
        if jnp.ndim(node) and len(node) % multiple:
            raise ConfigError(
                f"{len(node)} rows without weights cannot be spread over {multiple} devices: take "
                f"a multiple of {multiple} as batch size, or give train.Weighted rows."
            )
        return node

    return jax.tree.map(pad, batch, is_leaf=lambda node: isinstance(node, Sample | Weighted))


def shard_batch(batch: PyTree, *, mesh: Mesh) -> PyTree:
    """Spread the events of a batch over the devices; padded where their number asks for it.

    Args:
        batch: Samples or rows, as in :func:`pad_batch`.
        mesh: A mesh with one axis.

    Returns:
        The batch with the event axis of every leaf sharded, scalars on every device.

    Raises:
        ConfigError: If the mesh does not have exactly one axis; as :func:`pad_batch`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> sample = Sample(Events(jnp.ones((3, 1)), jnp.ones(3)), name="signal")
        >>> (sharded,) = shard_batch((sample,), mesh=jax.make_mesh((1,), ("events",)))
        >>> float(sharded.nominal.total())
        3.0
    """
    mesh = checked_mesh(mesh)
    padded = pad_batch(batch, multiple=mesh.devices.size)

    def place(leaf: Array) -> Array:
        spec = PartitionSpec(mesh.axis_names[0]) if jnp.ndim(leaf) else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, padded)


def replicate(tree: PyTree, *, mesh: Mesh) -> PyTree:
    """Put a copy of every leaf on every device.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> replicate(jnp.ones(2), mesh=jax.make_mesh((1,), ("events",))).tolist()
        [1.0, 1.0]
    """
    return jax.device_put(tree, NamedSharding(checked_mesh(mesh), PartitionSpec()))


def gather(tree: PyTree) -> PyTree:
    """Bring replicated leaves back to the default device, bound to none.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> gather(replicate(jnp.ones(2), mesh=jax.make_mesh((1,), ("events",)))).tolist()
        [1.0, 1.0]
    """

    def one(leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            words = jnp.asarray(np.asarray(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        return jnp.asarray(np.asarray(leaf))

    return jax.tree.map(one, tree)


def _pad_rows(rows: Array, missing: int) -> Array:
    return jnp.concatenate([rows, jnp.broadcast_to(rows[:1], (missing, *rows.shape[1:]))])


def _pad_weights(weights: Array, multiple: int) -> Array:
    return jnp.pad(weights, (0, -len(weights) % multiple))


def _pad_events(events: Events, multiple: int) -> Events:
    missing = -len(events) % multiple
    if not missing:
        return events
    padded = jax.tree.map(lambda rows: _pad_rows(rows, missing), events)
    return padded.with_weights(_pad_weights(events.weights, multiple))


def _pad_sample(sample: Sample, multiple: int) -> Sample:
    variations = [
        variation.mapped(
            lambda _, events: _pad_events(events, multiple),
            lambda _, weights: _pad_weights(weights, multiple),
        )
        for variation in sample.variations
    ]
    return Sample(
        _pad_events(sample.nominal, multiple),
        tuple(variations),
        sample.variance_scale,
        name=sample.name,
        normfactors=sample.normfactors,
    )
