"""A dataset read again, whoever wrote it: nothing in it is trusted before it is checked."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import jax.numpy as jnp
import msgspec
import numpy as np

from difana._errors import InputError
from difana.data import read_identifiers, read_metadata
from difana.unfold.dataset import KEY, NOMINAL, PREFIX, VERSION
from difana.unfold.result import UnfoldedEvents


class _Observable(msgspec.Struct):
    name: str
    unit: str


class _Replicas(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class _Weights(msgspec.Struct):
    replicas: dict[str, _Replicas]
    variations: dict[str, Any]


class _Document(msgspec.Struct):
    """The metadata, as far as they are needed again."""

    observables: Annotated[list[_Observable], msgspec.Meta(min_length=1)]
    texts: dict[str, str]
    weights: _Weights
    status: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Version(msgspec.Struct):
    version: Any


def load_dataset(path: str | Path) -> UnfoldedEvents:
    """Return the unfolded events of a dataset.

    Args:
        path: What ``save_dataset`` wrote.

    Returns:
        The events; ``histogram`` gives any distribution with its full covariance.

    Raises:
        InputError: If the file is truncated, no such dataset, of a newer version, or contradicts
            its own metadata; names the culprit.

    Example:
        >>> load_dataset("missing.parquet")
        Traceback (most recent call last):
        difana._errors.InputError: no file 'missing.parquet'...
    """
    metadata = read_metadata(path)
    if KEY not in metadata:
        raise InputError(f"'{path}' is no dataset of difana: it has no metadata '{KEY}'")
    document = _document(metadata[KEY], path)
    names = tuple(entry.name for entry in document.observables)
    kinds = {
        kind: [f"{PREFIX}{kind}_{i}" for i in range(entry.number)]
        for kind, entry in document.weights.replicas.items()
    }
    varied = {name: f"{PREFIX}{name}" for name in document.weights.variations}
    wanted = [*names, NOMINAL, *itertools.chain(*kinds.values()), *varied.values()]
    if len(set(wanted)) < len(wanted):
        raise InputError(f"the metadata of '{path}' name a column twice")
    found = read_identifiers(str(path), columns={name: f"`{name}`" for name in wanted})
    arrays = {name: _numbers(found[name], name, path) for name in wanted}
    return UnfoldedEvents(
        status=jnp.asarray(document.status),
        observables=jnp.asarray(np.stack([arrays[name] for name in names], axis=1)),
        weights=jnp.asarray(arrays[NOMINAL]),
        replicas={
            kind: jnp.asarray(np.stack([arrays[name] for name in group]))
            for kind, group in kinds.items()
        },
        variations={name: jnp.asarray(arrays[column]) for name, column in varied.items()},
        fiducial=jnp.ones(len(arrays[NOMINAL]), bool),
        names=names,
        units=tuple(entry.unit for entry in document.observables),
        metadata=tuple(document.texts.items()),
    )


def _document(text: str, path: str | Path) -> _Document:
    """Return the metadata of a dataset."""
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version != VERSION:
            raise InputError(
                f"'{path}' is a dataset of version {version!r}; this difana reads {VERSION}"
            )
        found = msgspec.json.decode(text, type=_Document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        reason = str(error)[:200]
        raise InputError(f"the metadata '{KEY}' of '{path}' are damaged: {reason}") from error
    names = [*(entry.name for entry in found.observables), *found.weights.variations]
    if "" in found.weights.replicas or any("`" in n for n in (*names, *found.weights.replicas)):
        raise InputError(f"the metadata of '{path}' hold a backquote or nothing in a name")
    return found


def _numbers(column: np.ndarray, name: str, path: str | Path) -> np.ndarray:
    if column.dtype.kind not in "fiu" or not np.isfinite(column).all():
        raise InputError(f"column '{name}' of '{path}' holds entries that are no finite numbers")
    return column.astype(float)
