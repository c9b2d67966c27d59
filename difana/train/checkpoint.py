"""Checkpoints of a training: atomic, checked, bound to one configuration (orbax)."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from difana._errors import ConfigError
from difana._typing import PyTree


class Restored(eqx.Module):
    """What a checkpoint gave back.

    Attributes:
        step: Number of steps done.
        tree: The arrays, in the structure of the template.
        facts: The plain numbers and words saved with them.
    """

    step: int
    tree: PyTree
    facts: dict[str, Any] = eqx.field(static=True)


class Checkpoints:
    """The last two checkpoints of one training in one folder.

    The leaves are joined to one vector for each type of number, which keeps a save of a small
    network at some hundredths of a second. A checkpoint appears in the folder whole or not at all;
    its checksums are compared when it is read, and an unreadable one is left for the one before.

    Args:
        directory: The folder; made if missing.
        fingerprint: JSON values that describe the configuration; must be equal on resume.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> folder = tempfile.mkdtemp()
        >>> with Checkpoints(folder, fingerprint={"steps": 10}) as checkpoints:
        ...     checkpoints.save(5, {"w": jnp.arange(3.0)}, facts={"status": "running"})
        ...     restored = checkpoints.restore({"w": jnp.zeros(3)})
        >>> restored.step, restored.tree["w"].tolist(), restored.facts
        (5, [0.0, 1.0, 2.0], {'status': 'running'})
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, fingerprint: Mapping[str, Any]
    ) -> None:
        """Open the folder and remove what a killed save left there."""
        import orbax.checkpoint as ocp

        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._fingerprint = dict(fingerprint)
        self._ocp = ocp
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
            ),
        )

    def __enter__(self) -> Checkpoints:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder."""
        self._manager.close()

    def clear(self) -> None:
        """Delete all checkpoints, to start anew."""
        self._delete_after(-1)

    def save(self, step: int, tree: PyTree, *, facts: Mapping[str, Any]) -> None:
        """Save the arrays and facts after ``step``; older checkpoints but one are deleted."""
        vectors = pack_leaves(tree)
        meta = {
            "fingerprint": self._fingerprint,
            "facts": dict(facts),
            "checksums": {name: zlib.crc32(vector.tobytes()) for name, vector in vectors.items()},
        }
        args = self._ocp.args
        self._manager.save(
            step,
            args=args.Composite(leaves=args.PyTreeSave(vectors), meta=args.JsonSave(meta)),
        )

    def restore(self, template: PyTree) -> Restored | None:
        """Return the latest readable checkpoint, or None where there is none.

        Args:
            template: The arrays at the start, for structure, shapes and types.

        Returns:
            The checkpoint. Unreadable ones after it are deleted, with a warning.

        Raises:
            ConfigError: If the checkpoint is of another configuration, or if none is readable.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        failures = []
        for step in steps:
            try:
                meta = self._read_meta(step)
            except Exception as error:  # damaged files raise many kinds
                failures.append((step, error))
                continue
            self._check(meta["fingerprint"])
            try:
                tree = self._read_leaves(step, template, meta["checksums"])
            except Exception as error:
                failures.append((step, error))
                continue
            if failures:
                self._delete_after(step)
                warnings.warn(
                    f"{self.directory}: the checkpoint of step {failures[0][0]} cannot be read "
                    f"({_first_line(failures[0][1])}); continuing from step {step}.",
                    stacklevel=2,
                )
            return Restored(step, tree, meta["facts"])
        if failures:
            raise ConfigError(
                f"{self.directory}: no checkpoint can be read (step {failures[0][0]}: "
                f"{_first_line(failures[0][1])}); delete the folder or start over with "
                "resume=False."
            )
        return None

    def _read_meta(self, step: int) -> dict[str, Any]:
        args = self._ocp.args
        meta = self._manager.restore(step, args=args.Composite(meta=args.JsonRestore()))["meta"]
        if not {"fingerprint", "facts", "checksums"} <= set(meta):
            raise ValueError("entries are missing")
        return meta

    def _read_leaves(self, step: int, template: PyTree, checksums: Mapping[str, int]) -> PyTree:
        args = self._ocp.args
        # As NumPy arrays: placing them on devices is the business of the caller.
        how = {name: self._ocp.RestoreArgs(restore_type=np.ndarray) for name in checksums}
        vectors = self._manager.restore(
            step, args=args.Composite(leaves=args.PyTreeRestore(restore_args=how))
        )["leaves"]
        for name, checksum in checksums.items():
            if zlib.crc32(np.asarray(vectors[name]).tobytes()) != checksum:
                raise ValueError(f"wrong checksum of {name}")
        return unpack_leaves(vectors, template)

    def _check(self, saved: Mapping[str, Any]) -> None:
        differences = list(_differences(saved, self._fingerprint))
        if differences:
            raise ConfigError(
                f"{self.directory} holds the checkpoint of another training: "
                f"{'; '.join(differences[:4])}{'; ...' if len(differences) > 4 else ''}. "
                "Give another folder, delete this one, or start over with resume=False."
            )

    def _delete_after(self, step: int) -> None:
        for other in self._manager.all_steps():
            if other > step:
                self._manager.delete(other)


def pack_leaves(tree: PyTree) -> dict[str, np.ndarray]:
    """Join the leaves to one vector for each type of number.

    Example:
        >>> import jax.numpy as jnp
        >>> pack_leaves([jnp.ones((1, 2), jnp.float32), jnp.zeros(1, jnp.float32)])
        {'float32': array([1., 1., 0.], dtype=float32)}
    """
    groups: dict[str, list[np.ndarray]] = {}
    for leaf in jax.tree.leaves(tree):
        values = np.asarray(_plain(leaf)).ravel()
        groups.setdefault(values.dtype.name, []).append(values)
    vectors = {name: np.concatenate(parts) for name, parts in groups.items()}
    return {name: vector for name, vector in vectors.items() if vector.size}


def unpack_leaves(vectors: Mapping[str, np.ndarray], template: PyTree) -> PyTree:
    """Cut the vectors of `pack_leaves` into the leaves of the template.

    Example:
        >>> import jax.numpy as jnp
        >>> tree = {"a": jnp.ones((2, 2)), "b": jnp.arange(3)}
        >>> unpack_leaves(pack_leaves(tree), tree)["b"].tolist()
        [0, 1, 2]
    """
    used = dict.fromkeys(vectors, 0)

    def cut(leaf: Array) -> Array:
        plain = _plain(leaf)
        name, start = plain.dtype.name, used.get(plain.dtype.name, 0)
        used[name] = start + plain.size
        values = vectors[name][start : used[name]] if plain.size else np.zeros(0, plain.dtype)
        array = jnp.asarray(values.reshape(plain.shape), dtype=plain.dtype)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
        return array

    return jax.tree.map(cut, template)


def _plain(leaf: Array) -> Array:
    """Return the words of a random key, and every other leaf as it is."""
    typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if typed else leaf


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _differences(saved: Any, now: Any, name: str = "") -> list[str]:
    """Return where two JSON values differ, in words."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        found = []
        for key in [*saved, *(key for key in now if key not in saved)]:
            below = f"{name}.{key}" if name else str(key)
            found += _differences(saved.get(key), now.get(key), below)
        return found
    return [] if saved == now else [f"{name} was {saved}, is {now}"]
