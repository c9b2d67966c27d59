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
from difana.data import Inputs

_FORMAT = "difana-stablehlo"
_VERSION = 1
_MAX_HEADER = 2**20
_MISSING = "export needs flatbuffers: pip install 'difana[export]'"


class ExportedNetwork:
    """A network read from a file; call it with features, or with ``Events.inputs``.

    Attributes:
        columns: Names of the features, in order.
        channels: Names of the particle channels, in order; empty for a network of features.
        max_particles: Largest number of particles of an event; 0 for a network of features.
        units: Their units; empty strings where unknown.
        dtype: Precision of inputs and outputs.
        platforms: Platforms it was compiled for.
        metadata: The whole header of the file.
    """

    def __init__(self, metadata: dict[str, Any], exported: Any) -> None:
        """Wrap what `load_network` read."""
        self.metadata = metadata
        self.columns: tuple[str, ...] = tuple(metadata["columns"])
        particles = metadata.get("particles") or {"channels": (), "maximum": 0}
        self.channels: tuple[str, ...] = tuple(particles["channels"])
        self.max_particles: int = particles["maximum"]
        self.units: tuple[str, ...] = tuple(metadata["units"])
        self.dtype = np.dtype(metadata["dtype"])
        self.platforms: tuple[str, ...] = tuple(metadata["platforms"])
        self._exported = exported

    def __call__(
        self, x: Float[ArrayLike, "events features"] | Inputs
    ) -> Float[Array, "events outputs"]:
        """Return the observables of any number of events.

        Raises:
            InputError: If the inputs are not those of the network, or an event has more particles.
        """
        if isinstance(x, Inputs) != bool(self.channels):
            wanted = (
                f"up to {self.max_particles} particles with the channels {list(self.channels)} "
                "beside the features: give Events.inputs"
                if self.channels
                else f"the columns {list(self.columns)} alone: give inputs.features"
            )
            raise InputError(f"the network takes {wanted}")
        features = jnp.asarray(x.features if isinstance(x, Inputs) else x, self.dtype)
        if features.ndim != 2 or features.shape[1] != len(self.columns):
            raise InputError(
                f"features of shape {features.shape}: the network takes [events, "
                f"{len(self.columns)}], the columns {list(self.columns)}"
            )
        if not isinstance(x, Inputs):
            return self._exported.call(features)
        particles = jnp.asarray(x.particles, self.dtype)
        missing = self.max_particles - particles.shape[1]
        if particles.shape[2] != len(self.channels) or missing < 0:
            raise InputError(
                f"particles of shape {particles.shape}: the network takes up to "
                f"{self.max_particles} with the channels {list(self.channels)}; read them with "
                f"max_particles={self.max_particles}"
            )
        particles = jnp.pad(particles, ((0, 0), (0, missing), (0, 0)))
        return self._exported.call(features, particles, jnp.pad(x.mask, ((0, 0), (0, missing))))


def export_network(
    path: str | Path,
    net: Network,
    *,
    columns: Sequence[str],
    units: Sequence[str] = (),
    channels: Sequence[str] = (),
    max_particles: int = 0,
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
        net: Any callable PyTree, ``Events.inputs -> [events, observables]``.
        columns: Names of the features, in order.
        units: Their units, in the same order.
        channels: Names of the particle channels, in order, for a network of particles.
        max_particles: Largest number of particles of an event, needed with channels.
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
    if bool(channels) != (max_particles > 0):
        raise InputError("give channels and max_particles together, or neither of them")
    given = [jax.ShapeDtypeStruct((events, len(columns)), np.dtype(dtype))]
    if channels:
        shape = (events, max_particles, len(channels))
        given.append(jax.ShapeDtypeStruct(shape, np.dtype(dtype)))
        given.append(jax.ShapeDtypeStruct(shape[:2], np.dtype(bool)))

    def function(features: Array, *cloud: Array) -> Array:
        return net(Inputs(features, *cloud).cleaned() if cloud else features)

    try:
        with _without_places():
            exported = export.export(jax.jit(function), platforms=tuple(platforms))(*given)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the network cannot be exported for {len(columns)} features {list(columns)}"
            + (f" and particles {list(channels)}" if channels else "")
            + f": {reason}"
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
        **(
            {"particles": {"channels": list(channels), "maximum": max_particles}}
            if channels
            else {}
        ),
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
        cloud = header.get("particles")
        lists = lists and (
            cloud is None or (type(cloud["maximum"]) is int and isinstance(cloud["channels"], list))
        )
        if (header["format"], header["version"]) == (_FORMAT, _VERSION) and texts and lists:
            return header
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(
        f"{path} is not an exported network of difana (format {_FORMAT}, version {_VERSION}): "
        "use a file that export_network wrote"
    )
