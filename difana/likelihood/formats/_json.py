"""Read JSON that may be broken, hostile, compressed or huge; every failure is one clear error."""

from __future__ import annotations

import contextlib
import gc
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from difana._errors import ModelError, nearest

_LARGEST = 1 << 31  # bytes of JSON
_CHUNK = 1 << 22
_RATIO = 200  # deflate reaches 1000 on zeros; JSON stays below 50
_FREE = 1 << 26  # what may unfold from a file of any size
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how such a text begins


@contextlib.contextmanager
def pause_collection() -> Iterator[None]:
    """Keep Python from searching for cyclic garbage while a tree of many parts is built.

    There is none, and the search doubles the time that reading a patch set takes.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _unzip(raw: bytes, where: str) -> bytes:
    """Return the content of a gzip file, stopping at what cannot be JSON."""
    unzip = zlib.decompressobj(wbits=31)
    parts, size, rest = [], 0, raw
    limit = min(_LARGEST, max(_FREE, _RATIO * len(raw)))
    try:
        while rest or not unzip.eof:
            part = unzip.decompress(rest, _CHUNK)
            if not part and not unzip.eof and not unzip.unconsumed_tail:
                raise ModelError(f"{where} is a broken gzip file: it ends too early")
            size += len(part)
            if size > limit:
                raise ModelError(
                    f"{where} unfolds from {len(raw)} to more than {limit} bytes: not a workspace"
                )
            parts.append(part)
            rest = unzip.unconsumed_tail
            if unzip.eof:  # gzip files may be joined end to end
                rest = unzip.unused_data
                if rest:
                    unzip = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise ModelError(f"{where} is a broken gzip file: {error}") from error
    return b"".join(parts)


def read_bytes(source: str | Path | IO[bytes], where: str, what: str) -> bytes:
    """Return the content of a file or stream, unzipped."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        try:
            if not path.is_file():
                near = nearest(path.name, [p.name for p in path.parent.glob("*.json*")])
                raise ModelError(f"no {what} file {where}.{near}")
            size = path.stat().st_size
            raw = path.read_bytes() if size <= _LARGEST else b""
        except OSError as error:
            raise ModelError(f"cannot read {where}: {error}") from error
    else:
        raw = source.read(_LARGEST + 1)
        size = len(raw)
    if size > _LARGEST:
        raise ModelError(f"{where} has {size} bytes; more than {_LARGEST} are not read")
    return _unzip(raw, where) if raw[:2] == b"\x1f\x8b" else raw


def _decode_quickly(raw: bytes, kind: Any = Any) -> Any:
    """Return the JSON, or None where it is for the slow reader to say what is wrong with it.

    msgspec keeps the last of keys that stand twice: then fewer colons are written again than were
    read (a string may hold some, but as many before as after). It decodes three times as fast.
    """
    if b"\\u003" in raw:  # an escaped colon
        return None
    try:
        found = msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if raw.count(b":") == msgspec.json.encode(found).count(b":") else None


def read_json(
    source: str | Path | IO[bytes],
    *,
    what: str = "workspace",
    lists: bool = False,
    kind: Any = Any,
    where: str | None = None,
) -> Any:
    """Return the JSON of a file or binary stream, gzipped or not.

    Stricter than :mod:`json`: a key that stands twice and the literals NaN and Infinity are
    refused, as is what is nested too deeply or unfolds without end.

    Args:
        source: Path, or a stream of bytes.
        what: What the file should hold, for messages.
        lists: Allow a list at the top, not only an object.
        kind: A type of msgspec that the content is decoded to where all is well with it.
        where: What messages call the source; its path or "standard input" by default.

    Raises:
        ModelError: Names the file and what is wrong with it.

    Example:
        >>> import io
        >>> read_json(io.BytesIO(b'{"a": [1, 2.5]}'))
        {'a': [1, 2.5]}
    """
    if where is None:
        where = f"'{source}'" if isinstance(source, (str, Path)) else "standard input"

    def objects(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            place = f" (the one called {found['name']!r})" if "name" in found else ""
            raise ModelError(f"{where}: the key '{twice}' stands twice in one object{place}")
        return found

    def constant(literal: str) -> Any:
        raise ModelError(f"{where} holds the literal {literal}, which is not JSON")

    raw = read_bytes(source, where, what)
    if raw[:2] in UTF16:
        raise ModelError(f"{where} is UTF-16; JSON is UTF-8: write it again in that encoding")
    start = raw[:4096].lstrip(b"\xef\xbb\xbf \t\r\n") or raw.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise ModelError(f"{where} is not JSON: it is empty")
    try:
        if start[:1] != b"{" and not (lists and start[:1] == b"["):
            json.loads(start[:64].decode("utf-8", "replace"))  # is it JSON at all?
            raise ModelError(f"{where} is no {what}: expected a JSON object")
        with pause_collection():
            found = _decode_quickly(raw, kind)
            if found is not None:
                return found
            text = raw.decode("utf-8-sig")
            del raw
            return json.loads(text, object_pairs_hook=objects, parse_constant=constant)
    except ModelError:
        raise
    except UnicodeDecodeError as error:
        raise ModelError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError:
        raise ModelError(f"{where} is nested too deeply for a {what}") from None
    except (ValueError, MemoryError) as error:
        if start[:1] == b"[" and not lists:
            raise ModelError(f"{where} is no {what}: expected a JSON object") from error
        raise ModelError(f"{where} is not JSON: {error}") from error


def load(source: Any, *, what: str = "workspace", lists: bool = False, kind: Any = Any) -> Any:
    """Return a mapping (or list) as it is, and what a path or stream holds otherwise.

    Raises:
        ModelError: If the source is of another kind, or cannot be read.
    """
    if isinstance(source, Mapping) or (lists and isinstance(source, (list, tuple))):
        return source
    if isinstance(source, (str, Path)) or hasattr(source, "read"):
        return read_json(source, what=what, lists=lists, kind=kind)
    raise ModelError(f"not a {what}: expected a path or a mapping, not {type(source).__name__}")
