"""Final weights on disk: a readable header and plain NumPy arrays, never a pickle."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeVar

import equinox as eqx
import jax
import numpy as np

from difana._errors import InputError
from difana._files import NoHeaderError, read_block, write_block

_FORMAT = "difana-weights"
_VERSION = 2
_MOST_AROUND = 4096  # bytes around the numbers of a leaf

T = TypeVar("T")


def _describe(tree: object) -> list[list]:
    """Return path, type and shape of each leaf that is stored."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        [jax.tree_util.keystr(path), str(getattr(leaf, "dtype", type(leaf))), list(np.shape(leaf))]
        for path, leaf in leaves
        if eqx.is_array_like(leaf)
    ]


def save_weights(path: str | Path, tree: object) -> None:
    """Write the arrays of a PyTree to ``path``, whole or not at all.

    The file is written beside its final place and then renamed, so that a killed process leaves
    either the old file or the new one. Its first line is a JSON description of the leaves, with
    checksums.

    Args:
        path: File to write; an existing one is replaced.
        tree: Any PyTree, for instance a network; leaves that are no numbers are left out.

    Raises:
        InputError: If the folder of ``path`` does not exist or cannot be written into.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(folder + "/w.difana", {"a": jnp.ones(2)})
        ...     load_weights(folder + "/w.difana", {"a": jnp.zeros(2)})["a"].tolist()
        [1.0, 1.0]
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    payload = io.BytesIO()
    eqx.tree_serialise_leaves(payload, tree)
    header = {"format": _FORMAT, "version": _VERSION, "leaves": _describe(tree)}
    write_block(path, header, payload.getbuffer())


def load_weights(path: str | Path, like: T) -> T:
    """Read what ``save_weights`` wrote into the structure of ``like``.

    Args:
        path: File to read.
        like: A PyTree of the same structure, shapes and types, for instance a new network.

    Returns:
        A PyTree like ``like`` with the stored numbers.

    Raises:
        InputError: If the file is missing, damaged, of another format or holds other leaves.

    Example:
        See ``save_weights``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights in {path}: there is no such file")

    def most(header: dict) -> int:
        if (header.get("format"), header.get("version")) != (_FORMAT, _VERSION):
            raise NoHeaderError("it is of another format")
        if not isinstance(header.get("leaves"), list):
            raise NoHeaderError("it names no leaves")
        _compare(path, header["leaves"], _describe(like))
        leaves = [leaf for leaf in jax.tree.leaves(like) if eqx.is_array_like(leaf)]
        return sum(_MOST_AROUND + getattr(leaf, "nbytes", 0) for leaf in leaves)

    try:
        _, payload = read_block(path, most=most)
    except InputError:
        raise
    except NoHeaderError as error:
        raise InputError(
            f"{path} is not a file of weights of difana (format {_FORMAT}, version {_VERSION}): "
            "use a file that save_weights wrote"
        ) from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}; save the weights again") from error
    try:
        return eqx.tree_deserialise_leaves(io.BytesIO(payload), like)
    except (ValueError, TypeError, EOFError, OSError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged, its arrays cannot be read: {reason}") from error


def _compare(path: Path, stored: list, wanted: list) -> None:
    if len(stored) != len(wanted):
        raise InputError(
            f"{path} does not fit this network: {len(stored)} leaves stored, {len(wanted)} expected"
        )
    for found, want in zip(stored, wanted, strict=True):
        if found != want:
            raise InputError(
                f"{path} does not fit this network: it holds leaf {found} where {want} is "
                "expected (path, type, shape); build the network as it was built for training"
            )
