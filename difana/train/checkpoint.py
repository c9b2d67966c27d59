"""Checkpoints of a training: atomic, checked, bound to one configuration."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from difana._errors import ConfigError, WriteError
from difana._files import cannot_write, locked, read_block, refuse_links, write_block
from difana._typing import PyTree

_STEP = re.compile("0|[1-9][0-9]{0,17}")
_PART = ".part"
_AROUND = 25  # letters of long texts shown around their first difference
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OSError, MemoryError)


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

    A checkpoint is a folder named after its step: ``meta/metadata``, a line of JSON, and
    ``leaves/``, one file of plain numbers for each type of number, all with checksums. It appears
    whole or not at all; a damaged one is left for the one before. Nothing in the files is executed
    and no more is read than the training can use. One process at a time holds the folder.

    Args:
        directory: The folder; made if missing. No symbolic link may lie in it.
        fingerprint: JSON values that describe the configuration; must be equal on resume.

    Raises:
        InputError: If the folder cannot be written into, holds symbolic links, or another run
            holds it.

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
        self.directory = Path(directory).absolute()
        self._fingerprint = json.loads(json.dumps(dict(fingerprint)))
        refuse_links(self.directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.directory, error) from error
        self._open = ExitStack()
        self._open.enter_context(locked(self.directory))
        for path in self.directory.glob("*" + _PART):
            shutil.rmtree(path, ignore_errors=True)

    def __enter__(self) -> Checkpoints:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder."""
        self._open.close()

    def clear(self) -> None:
        """Delete all checkpoints, to start anew."""
        self._delete_after(-1)

    def save(self, step: int, tree: PyTree, *, facts: Mapping[str, Any]) -> None:
        """Save the arrays and facts after ``step``; older checkpoints but one are deleted.

        Raises:
            WriteError: If the disk is full or the like; the checkpoints before are kept.
        """
        vectors = {name: vector.tobytes() for name, vector in pack_leaves(tree).items()}
        meta = {
            "fingerprint": self._fingerprint,
            "facts": dict(facts),
            "checksums": {name: zlib.crc32(content) for name, content in vectors.items()},
        }
        new = self.directory / f"{step}{_PART}"
        try:
            for below in ("leaves", "meta"):
                (new / below).mkdir(parents=True)
            for name, content in vectors.items():
                write_block(new / "leaves" / name, {"type": name}, content)
            write_block(new / "meta" / "metadata", meta, b"")
            self._delete(step)
            os.rename(new, self.directory / str(step))  # noqa: PTH104
            for old in self._steps()[:-2]:
                self._delete(old)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            raise WriteError(
                f"cannot write the checkpoint of step {step} to '{self.directory}': "
                f"{_first_line(error.__cause__ or error)}. Those before are kept: the same call "
                "continues from there"
            ) from error

    def restore(
        self, template: PyTree, *, accept: Callable[[int, Mapping[str, Any]], None] | None = None
    ) -> Restored | None:
        """Return the latest readable checkpoint, or None where there is none.

        Args:
            template: The arrays at the start, for structure, shapes and types.
            accept: Called with step and facts; raises if what belongs to the checkpoint is damaged.

        Returns:
            The checkpoint. Unreadable ones after it are deleted, with a warning.

        Raises:
            ConfigError: If the checkpoint is of another configuration, or if none is readable.
        """
        failures = []
        for step in reversed(self._steps()):
            try:
                meta = self._read_meta(step)
            except _DAMAGE as error:
                failures.append((step, error))
                continue
            self._check(meta["fingerprint"])
            try:
                tree = self._read_leaves(step, template, meta["checksums"])
                if accept is not None:
                    accept(step, meta["facts"])
            except _DAMAGE as error:
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

    def differences(self) -> list[str]:
        """Return how the latest readable checkpoint is of another training; none if it is not."""
        for step in reversed(self._steps()):
            try:
                meta = self._read_meta(step)
            except _DAMAGE:
                continue
            return _differences(meta["fingerprint"], self._fingerprint)
        return []

    def _steps(self) -> list[int]:
        names = (path.name for path in self.directory.iterdir() if path.is_dir())
        return sorted(int(name) for name in names if _STEP.fullmatch(name))

    def _read_meta(self, step: int) -> dict[str, Any]:
        meta, _ = read_block(self.directory / str(step) / "meta" / "metadata", most=lambda _: 0)
        if not {"fingerprint", "facts", "checksums"} <= set(meta):
            raise ValueError("entries are missing")
        return meta

    def _read_leaves(self, step: int, template: PyTree, checksums: Mapping[str, int]) -> PyTree:
        vectors = {}
        for name, wanted in pack_leaves(template).items():
            path = self.directory / str(step) / "leaves" / name
            _, content = read_block(path, most=lambda _, size=wanted.nbytes: size)
            if zlib.crc32(content) != checksums[name] or len(content) != wanted.nbytes:
                raise ValueError(f"wrong checksum of {name}")
            vectors[name] = np.frombuffer(content, wanted.dtype)
        return unpack_leaves(vectors, template)

    def _check(self, saved: Mapping[str, Any]) -> None:
        differences = list(_differences(saved, self._fingerprint))
        if differences:
            raise ConfigError(
                f"{self.directory} holds the checkpoint of another training: "
                f"{'; '.join(differences[:4])}{'; ...' if len(differences) > 4 else ''}. "
                "Give another folder, delete this one, or start over with resume=False."
            )

    def _delete(self, step: int) -> None:
        """Delete a checkpoint; killed in the middle, nothing looks like one."""
        path, gone = self.directory / str(step), self.directory / f"{step}.gone{_PART}"
        if path.is_dir():
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _delete_after(self, step: int) -> None:
        for other in self._steps():
            if other > step:
                self._delete(other)


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


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _differences(saved: Any, now: Any, name: str = "") -> list[str]:
    """Return where two JSON values differ, in words."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        found = []
        for key in [*saved, *(key for key in now if key not in saved)]:
            below = f"{name}.{key}" if name else str(key)
            found += _differences(saved.get(key), now.get(key), below)
        return found
    if saved == now:
        return []
    if isinstance(saved, str) and isinstance(now, str) and len(saved + now) > 8 * _AROUND:
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(saved, now, strict=False))
        start = max(len(list(same)) - _AROUND, 0)
        saved, now = (
            ("..." if start else "") + text[start : start + 3 * _AROUND] for text in (saved, now)
        )
    return [f"{name} was {saved}, is {now}"]
