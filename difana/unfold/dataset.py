"""An unfolded result as a dataset that others can use: one table of events, weights and texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Shaped

from difana._errors import InputError, nearest
from difana.data import Events, read_identifiers, read_metadata, to_hdf5, to_parquet
from difana.unfold.result import UnfoldedEvents
from difana.unfold.status import describe

_KEY = "difana_unfolded"
_VERSION = 1
_PREFIX = "weights_"
_NOMINAL = f"{_PREFIX}nominal"
_TEXTS = ("method", "fiducial", "luminosity", "normalisation")
_NORMALISATION = (
    "the weights are yields: their sum is the number of events in the fiducial region that the"
    " data stand for; the weights of the generator are included"
)
_SPREAD = (
    "covariance of the histograms filled with {columns} about their mean, divided by their number"
    " minus one"
)
_SHIFT = (
    "histogram filled with {columns} minus the nominal one: a shift of one standard deviation; its"
    " outer product with itself adds to the covariance"
)


def save_dataset(
    events: UnfoldedEvents,
    path: str | Path,
    *,
    fiducial: str = "",
    luminosity: str = "",
    normalisation: str = "",
    uncertainties: Mapping[str, str] | None = None,
    more: Mapping[str, Shaped[ArrayLike, " events"]] | None = None,
) -> Path:
    """Write unfolded events as a dataset: HDF5 or parquet, by the suffix.

    Columns are the observables, ``weights_nominal``, ``weights_<kind>_<i>`` of the replicas
    (``bootstrap``, ``ensemble``) and ``weights_<name>`` of the systematic variations; rows the
    events of the fiducial region. The metadata ``difana_unfolded`` say, as JSON, the units, the
    fiducial region, luminosity, normalisation, the status, and how to form each uncertainty.

    Args:
        events: The result, e.g. of ``OmniFold.unfolded``.
        path: The file, replaced if there is one; ends in ``.parquet``, ``.h5`` or ``.hdf5``.
        fiducial: Definition of the fiducial region in words; empty keeps that of the result.
        luminosity: Integrated luminosity with its unit.
        normalisation: What a sum of weights means; by default the yield.
        uncertainties: Sentences that replace or complete those on each kind and variation.
        more: Further truth-level observables, one number an event of ``events``.

    Returns:
        The path.

    Raises:
        InputError: If the observables are no columns, names clash or a number is not finite.

    Example:
        >>> import tempfile
        >>> result = UnfoldedEvents(
        ...     status=jnp.asarray(0), observables=jnp.array([[30.0], [50.0]]),
        ...     weights=jnp.array([1.0, 2.0]), replicas={}, variations={"jes": jnp.ones(2)},
        ...     fiducial=jnp.array([True, True]), names=("pt",), units=("GeV",),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_dataset(result, Path(folder) / "unfolded.parquet", fiducial="pt > 20")
        ...     again = load_dataset(path)
        >>> again.variations["jes"].tolist(), dict(again.metadata)["fiducial"]
        ([1.0, 1.0], 'pt > 20')
    """
    path = Path(path).expanduser()
    if path.suffix not in (".parquet", ".h5", ".hdf5"):
        raise InputError(f"a dataset must end in .parquet, .h5 or .hdf5, got '{path}'")
    kept = np.asarray(events.fiducial)
    table, names, units = _observables(events, more or {})
    weights, content = _weights(events, uncertainties or {})
    texts = dict(events.metadata)
    given = {"fiducial": fiducial, "luminosity": luminosity, "normalisation": normalisation}
    texts |= {key: text for key, text in given.items() if text}
    texts.setdefault("normalisation", _NORMALISATION)
    document = {
        "version": _VERSION,
        "observables": [
            {"name": name, "unit": unit} for name, unit in zip(names, units, strict=True)
        ],
        "texts": {key: texts[key] for key in sorted(texts, key=_order)},
        "weights": content,
        "status": int(np.asarray(events.status)),
        "status_text": describe(events.status),
    }
    nominal = weights.pop(_NOMINAL)[kept]
    for name, column in {_NOMINAL: nominal, **weights}.items():
        if not np.isfinite(column).all():
            raise InputError(f"{name} are not finite: such a result cannot be published")
    write = to_parquet if path.suffix == ".parquet" else to_hdf5
    return write(
        Events(table[kept], nominal, columns=names, units=units),  # pyright: ignore
        path,
        weight=_NOMINAL,
        extra={name: column[kept] for name, column in weights.items()},
        metadata={_KEY: json.dumps(document)},
    )


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
    if _KEY not in metadata:
        raise InputError(f"'{path}' is no dataset of difana: it has no metadata '{_KEY}'")
    names, units, texts, columns, status = _content(metadata[_KEY], path)
    wanted = [*names, _NOMINAL, *(name for group in columns.values() for name in group)]
    if len(set(wanted)) < len(wanted):
        raise InputError(f"the metadata of '{path}' name a column twice")
    found = read_identifiers(str(path), columns={name: f"`{name}`" for name in wanted})
    arrays = {name: _numbers(found[name], name, path) for name in wanted}
    replicas = {
        kind: jnp.asarray(np.stack([arrays[name] for name in group]))
        for kind, group in columns.items()
        if kind
    }
    variations = {
        name.removeprefix(_PREFIX): jnp.asarray(arrays[name]) for name in columns.get("", ())
    }
    return UnfoldedEvents(
        status=jnp.asarray(status),
        observables=jnp.asarray(np.stack([arrays[name] for name in names], axis=1)),
        weights=jnp.asarray(arrays[_NOMINAL]),
        replicas=replicas,
        variations=variations,
        fiducial=jnp.ones(len(arrays[_NOMINAL]), bool),
        names=names,
        units=units,
        metadata=tuple(texts.items()),
    )


def _order(key: str) -> tuple[int, str]:
    return (_TEXTS.index(key) if key in _TEXTS else len(_TEXTS), key)


def _observables(
    events: UnfoldedEvents, more: Mapping[str, Any]
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    table = np.asarray(events.observables)
    if table.ndim != 2:
        raise InputError(
            f"the observables have shape {table.shape}: a dataset holds one number an event and"
            " observable; unfold or compute such observables"
        )
    names = events.names or tuple(f"x{i}" for i in range(table.shape[1]))
    units = events.units or ("",) * len(names)
    for name, column in more.items():
        column = np.asarray(column)
        if column.shape != table.shape[:1]:
            raise InputError(
                f"'{name}' has shape {column.shape}; give one number for each of the"
                f" {len(table)} events"
            )
        table = np.concatenate([table, column[:, None]], axis=1)
        names, units = (*names, name), (*units, "")
    for name in names:
        if "`" in name or name.startswith(_PREFIX) or names.count(name) > 1:
            raise InputError(
                f"an observable cannot be called '{name}': names must differ, hold no backquote"
                f" and not start with '{_PREFIX}'"
            )
    inside = np.isfinite(table) | ~np.asarray(events.fiducial)[:, None]
    if not inside.all():
        culprit = names[int(np.argmin(inside.all(axis=0)))]
        raise InputError(f"observable '{culprit}' is not finite in the fiducial region")
    return table, names, units


def _weights(
    events: UnfoldedEvents, sentences: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return all columns of weights, and what the metadata say about them."""
    unknown = set(sentences) - set(events.replicas) - set(events.variations)
    if unknown:
        name = sorted(unknown)[0]
        known = [*events.replicas, *events.variations]
        raise InputError(f"no replicas or variation '{name}'.{nearest(name, known)}")
    columns = {_NOMINAL: np.asarray(events.weights)}
    content: dict[str, Any] = {"nominal": _NOMINAL, "replicas": {}, "variations": {}}

    def add(name: str, values: Any) -> None:
        if name in columns or "`" in name:
            raise InputError(f"two columns would be called '{name}', or it holds a backquote")
        columns[name] = np.asarray(values)

    for kind, rows in events.replicas.items():
        label = f"{_PREFIX}{kind}_<i>"
        text = sentences.get(kind, _SPREAD.format(columns=label))
        content["replicas"][kind] = {"columns": label, "number": len(rows), "uncertainty": text}
        for i, row in enumerate(np.asarray(rows)):
            add(f"{_PREFIX}{kind}_{i}", row)
    for name, row in events.variations.items():
        label = f"{_PREFIX}{name}"
        text = sentences.get(name, _SHIFT.format(columns=label))
        content["variations"][name] = {"column": label, "uncertainty": text}
        add(label, row)
    return columns, content


def _content(
    text: str, path: str | Path
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str], dict[str, list[str]], int]:
    """Return names, units, texts, columns of weights by kind ("" for variations) and status."""
    try:
        document = json.loads(text)
        version = document["version"]
        if version != _VERSION:
            raise InputError(
                f"'{path}' is a dataset of version {version!r}; this difana reads {_VERSION}"
            )
        names = tuple(_text(entry["name"]) for entry in document["observables"])
        units = tuple(_text(entry["unit"]) for entry in document["observables"])
        texts = {_text(key): _text(value) for key, value in document["texts"].items()}
        kinds = {
            _text(kind): int(entry["number"])
            for kind, entry in document["weights"]["replicas"].items()
        }
        variations = [_text(name) for name in document["weights"]["variations"]]
        status = int(document["status"])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise InputError(f"the metadata '{_KEY}' of '{path}' are damaged ({reason})") from error
    if not names or any("`" in name for name in (*names, *kinds, *variations)):
        raise InputError(f"the metadata of '{path}' name no observable, or a backquote in a name")
    if "" in kinds or any(not 0 < number <= 100_000 for number in kinds.values()):
        raise InputError(f"the metadata of '{path}' hold numbers of replicas that make no sense")
    columns = {
        kind: [f"{_PREFIX}{kind}_{i}" for i in range(number)] for kind, number in kinds.items()
    }
    if variations:
        columns[""] = [f"{_PREFIX}{name}" for name in variations]
    return names, units, texts, columns, status


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _numbers(column: np.ndarray, name: str, path: str | Path) -> np.ndarray:
    if column.dtype.kind not in "fiu" or not np.isfinite(column).all():
        raise InputError(f"column '{name}' of '{path}' holds entries that are no finite numbers")
    return column.astype(float)
