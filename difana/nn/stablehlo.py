"""A trained network as one portable file: StableHLO with its weights, no Python, no pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from difana._errors import InputError
from difana._files import write_whole
from difana._typing import Network

_FORMAT = "difana-stablehlo"
_VERSION = 1
_MAX_HEADER = 2**20
_MISSING = "export needs flatbuffers: pip install 'difana[export]'"


class ExportedNetwork:
    """A network read from a file; call it with features.

    Attributes:
        columns: Names of the inputs, in order.
        units: Their units; empty strings where unknown.
        dtype: Precision of inputs and outputs.
        platforms: Platforms it was compiled for.
        metadata: The whole header of the file.
    """

    def __init__(self, metadata: dict[str, Any], exported: Any) -> None:
        """Wrap what `load_network` read."""
        self.metadata = metadata
        self.columns: tuple[str, ...] = tuple(metadata["columns"])
        self.units: tuple[str, ...] = tuple(metadata["units"])
        self.dtype = np.dtype(metadata["dtype"])
        self.platforms: tuple[str, ...] = tuple(metadata["platforms"])
        self._exported = exported

    def __call__(self, x: Float[ArrayLike, "events features"]) -> Float[Array, "events outputs"]:
        """Return the observables of any number of events.

        Raises:
            InputError: If the features are not those of the network.
        """
        x = jnp.asarray(x, self.dtype)
        if x.ndim != 2 or x.shape[1] != len(self.columns):
            raise InputError(
                f"features of shape {x.shape}: the network takes [events, {len(self.columns)}], "
                f"the columns {list(self.columns)}"
            )
        return self._exported.call(x)


def export_network(
    path: str | Path,
    net: Network,
    *,
    columns: Sequence[str],
    units: Sequence[str] = (),
    dtype: Any = np.float32,
    platforms: Sequence[str] = ("cpu", "cuda"),
    notes: dict[str, Any] | None = None,
) -> None:
    """Write a network as StableHLO for any number of events, weights included.

    The file has one line of JSON (names and units of the inputs, shapes, precision, platforms,
    versions, a checksum) and then what `jax.export` makes: a portable program that later versions
    of JAX and other runtimes of StableHLO can read without the Python code of the network. JAX
    promises to read it for six months; keep the weights (`save_weights`) as well.

    Args:
        path: File to write, whole or not at all.
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        columns: Names of the features, in order.
        units: Their units, in the same order.
        dtype: Precision of the features.
        platforms: What to compile for: ``cpu``, ``cuda``, ``rocm``, ``tpu``.
        notes: Anything else for the header that JSON can hold.

    Raises:
        InputError: If the folder is missing, or the network does not take these features.
        ModuleNotFoundError: If flatbuffers is missing.

    Example:
        >>> import tempfile
        >>> from difana.nn import load_network
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "net.stablehlo")
        ...     export_network(file, lambda x: x.sum(axis=1, keepdims=True), columns=("a", "b"))
        ...     net = load_network(file)
        >>> net.columns, net([[1.0, 2.0], [3.0, 4.0]]).tolist()
        (('a', 'b'), [[3.0], [7.0]])
    """
    from jax import export

    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    if units and len(units) != len(columns):
        raise InputError(f"{len(units)} units for {len(columns)} columns")
    (events,) = export.symbolic_shape("events")
    given = jax.ShapeDtypeStruct((events, len(columns)), np.dtype(dtype))
    try:
        with _without_places():
            exported = export.export(jax.jit(lambda x: net(x)), platforms=tuple(platforms))(given)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the network cannot be exported for {len(columns)} features {list(columns)}: {reason}"
        ) from error
    try:
        payload = bytes(exported.serialize())
    except ImportError as error:
        raise ModuleNotFoundError(_MISSING, name="flatbuffers") from error
    (result,) = exported.out_avals
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        "columns": list(columns),
        "units": list(units) or [""] * len(columns),
        "input": ["events", len(columns)],
        "output": [str(size) if size == events else int(size) for size in result.shape],
        "dtype": np.dtype(dtype).name,
        "platforms": list(exported.platforms),
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
        **({"notes": notes} if notes else {}),
    }
    write_whole(path, [json.dumps(header).encode() + b"\n", payload])


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    """Keep files and lines of the caller out of the program: equal networks give equal bytes."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def load_network(path: str | Path) -> ExportedNetwork:
    """Read what `export_network` wrote; the numbers are those of the network it was made of.

    Args:
        path: The file.

    Raises:
        InputError: If the file is missing, damaged or of another format, or too new for this JAX.
        ModuleNotFoundError: If flatbuffers is missing.

    Example:
        See `export_network`.
    """
    from jax import export

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no network in {path}: there is no such file")
    with path.open("rb") as file:
        header = _read_header(path, file.readline(_MAX_HEADER))
        payload = file.read(header["bytes"] + 1)
    if hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise InputError(f"{path} is damaged: the checksum is wrong; export the network again")
    try:
        exported = export.deserialize(bytearray(payload))
    except ImportError as error:
        raise ModuleNotFoundError(_MISSING, name="flatbuffers") from error
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} was made by JAX {header.get('jax')} and cannot be read by {jax.__version__}: "
            f"{reason}"
        ) from error
    return ExportedNetwork(header, exported)


def _read_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        size = header["bytes"]
        texts = (
            type(size) is int
            and 0 <= size <= path.stat().st_size
            and all(isinstance(header[key], str) for key in ("sha256", "dtype"))
        )
        lists = all(isinstance(header[key], list) for key in ("columns", "units", "platforms"))
        if (header["format"], header["version"]) == (_FORMAT, _VERSION) and texts and lists:
            return header
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(
        f"{path} is not an exported network of difana (format {_FORMAT}, version {_VERSION}): "
        "use a file that export_network wrote"
    )
