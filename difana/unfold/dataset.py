"""An unfolded result as a dataset that others can use: one table of events, weights and texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Shaped

from difana._errors import InputError, nearest
from difana.data import Events, to_hdf5, to_parquet
from difana.unfold.result import UnfoldedEvents

KEY = "difana_unfolded"
VERSION = 1
PREFIX = "weights_"
NOMINAL = f"{PREFIX}nominal"
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
        >>> import jax.numpy as jnp
        >>> result = UnfoldedEvents(
        ...     status=jnp.asarray(0), observables=jnp.array([[30.0], [50.0]]),
        ...     weights=jnp.array([1.0, 2.0]), replicas={}, variations={"jes": jnp.ones(2)},
        ...     fiducial=jnp.array([True, True]), names=("pt",), units=("GeV",),
        ... )
        >>> from difana.unfold import load_dataset
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
        "version": VERSION,
        "observables": [
            {"name": name, "unit": unit} for name, unit in zip(names, units, strict=True)
        ],
        "texts": {key: texts[key] for key in sorted(texts, key=_order)},
        "weights": content,
        "status": int(np.asarray(events.status)),
        "status_text": events.message,
    }
    nominal = weights.pop(NOMINAL)[kept]
    for name, column in {NOMINAL: nominal, **weights}.items():
        if not np.isfinite(column).all():
            raise InputError(f"{name} are not finite: such a result cannot be published")
    write = to_parquet if path.suffix == ".parquet" else to_hdf5
    return write(
        Events(table[kept], nominal, columns=names, units=units),  # pyright: ignore
        path,
        weight=NOMINAL,
        extra={name: column[kept] for name, column in weights.items()},
        metadata={KEY: json.dumps(document)},
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
        if "`" in name or name.startswith(PREFIX) or names.count(name) > 1:
            raise InputError(
                f"an observable cannot be called '{name}': names must differ, hold no backquote"
                f" and not start with '{PREFIX}'"
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
    columns = {NOMINAL: np.asarray(events.weights)}
    content: dict[str, Any] = {"nominal": NOMINAL, "replicas": {}, "variations": {}}

    def add(name: str, values: Any) -> None:
        if name in columns or "`" in name:
            raise InputError(f"two columns would be called '{name}', or it holds a backquote")
        columns[name] = np.asarray(values)

    for kind, rows in events.replicas.items():
        label = f"{PREFIX}{kind}_<i>"
        text = sentences.get(kind, _SPREAD.format(columns=label))
        content["replicas"][kind] = {"columns": label, "number": len(rows), "uncertainty": text}
        for i, row in enumerate(np.asarray(rows)):
            add(f"{PREFIX}{kind}_{i}", row)
    for name, row in events.variations.items():
        label = f"{PREFIX}{name}"
        text = sentences.get(name, _SHIFT.format(columns=label))
        content["variations"][name] = {"column": label, "uncertainty": text}
        add(label, row)
    return columns, content
