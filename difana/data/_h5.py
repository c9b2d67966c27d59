"""What an HDF5 file declares, checked before anything of that size is allocated or read."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from difana.data._table import reason_of, reraise_stop

_DEFLATE = 1100
"""Largest factor by which zlib compresses."""
_HEAP = b"GCOL\x01\0\0\0"
_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
_CHUNK = 2**28
"""Largest chunk of bytes that other filters may make of little."""


def members(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield the paths and datasets below a group, and the error for each that cannot be opened.

    Groups that contain themselves, through links, are left out; a group of ``content`` and
    ``offsets`` is yielded as it is.
    """
    yield from _members(group, "", (_address(group),))


def _members(group: Any, path: str, above: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    import h5py

    try:
        keys = list(group)
    except BaseException as error:
        reraise_stop(error)
        yield path, error
        return
    for key in keys:
        inside = f"{path}/{key}".lstrip("/")
        try:
            _require_target(group, key)
            item = group[key]
            address = _address(item) if isinstance(item, h5py.Group) else None
            jagged = address is not None and set(item) == {"content", "offsets"}
        except BaseException as error:
            reraise_stop(error)
            yield inside, error
            continue
        if isinstance(item, h5py.Dataset) or jagged:
            yield inside, item
        elif isinstance(item, h5py.Group) and address not in above and len(above) < 50:
            yield from _members(item, inside, (*above, address))


def _require_target(group: Any, key: str) -> None:
    """Refuse an external link to something that is no file: opening a pipe would never end."""
    import h5py

    link = group.get(key, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        target = Path(group.file.filename).parent / link.filename
        if not target.is_file():
            raise OSError(f"it is a link into the file '{link.filename}', which is not there")


def _address(group: Any) -> Any:
    import h5py

    info = h5py.h5o.get_info(group.id)  # pyright: ignore
    return info.fileno, info.addr


def require_sound(dataset: Any) -> None:
    """Check the declared size of a dataset against what the file holds of it.

    Raises:
        ValueError: If it declares more than that.
    """
    if dataset.shape is None:
        raise ValueError("it is empty (no dataspace)")
    declared = int(np.prod([int(n) for n in dataset.shape], dtype=object)) * dataset.dtype.itemsize
    if dataset.is_virtual:
        _require_sources(dataset)
        return
    if declared == 0:
        return
    if dataset.external:
        folder = Path(dataset.file.filename).parent
        held = sum((folder / name).stat().st_size for name, *_ in dataset.external)
        if held < declared:
            raise ValueError(f"it declares {declared} bytes, its external files hold {held}")
        return
    size = Path(dataset.file.filename).stat().st_size
    stored = int(dataset.id.get_storage_size())
    if stored > size:
        raise ValueError(f"it declares {stored} bytes, the file has {size}")
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if stored < declared or (offset is not None and offset + stored > size):
            raise ValueError(f"it declares {declared} bytes, the file holds {stored} of it")
        return
    _require_chunks(dataset, stored, size)


def _require_chunks(dataset: Any, stored: int, size: int) -> None:
    grid = [-(-int(n) // int(c)) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]
    wanted = int(np.prod(grid, dtype=object))
    chunk = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
    if wanted > size:  # a chunk has more than one byte
        raise ValueError(f"it declares {wanted} chunks in a file of {size} bytes")
    found = int(dataset.id.get_num_chunks())
    if found < wanted:
        raise ValueError(f"{found} of {wanted} chunks were written: the file is unfinished")
    filters = [dataset.id.get_create_plist().get_filter(i)[0] for i in range(_filters(dataset))]
    factor = 1 if not filters else _DEFLATE ** filters.count(1)
    if set(filters) <= {1, 2, 3}:  # deflate, shuffle, checksum
        if chunk > factor * (stored + 64) and chunk > 2**20:
            raise ValueError(f"it declares chunks of {chunk} bytes, the file holds {stored}")
    elif chunk > max(_CHUNK, stored):
        raise ValueError(f"it declares chunks of {chunk} bytes, the file holds {stored}")


def _filters(dataset: Any) -> int:
    return int(dataset.id.get_create_plist().get_nfilters())


def _require_sources(dataset: Any) -> None:
    """A virtual dataset without its sources would give its fill value."""
    folder = Path(dataset.file.filename).parent
    for source in dataset.virtual_sources():
        name = str(source.file_name)
        if name != "." and not (folder / name).is_file():
            raise ValueError(f"its source '{name}' is not there")


def require_texts(dataset: Any) -> None:
    """Check texts of any length: HDF5 loops for ever in a broken heap, or allocates what it says.

    Raises:
        ValueError: If an object of a heap has no size or reaches beyond it, or the texts together
            are longer than the file.
    """
    path = Path(dataset.file.filename)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        _require_heaps(content)
        for start, size in _stored(dataset):
            lengths = np.frombuffer(content[start : start + size], _REFERENCE)["length"]
            if lengths.sum(dtype=np.int64) > len(content):
                raise ValueError("its texts are longer than the file")


def _require_heaps(content: mmap.mmap) -> None:
    start = content.find(_HEAP)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        at = start + 16
        while at + 16 <= end:
            index = int.from_bytes(content[at : at + 2], "little")
            length = int.from_bytes(content[at + 8 : at + 16], "little")
            step = length if index == 0 else 16 + -(-length // 8) * 8
            if step == 0 or at + step > min(end, len(content)):
                raise ValueError("the texts of the file are broken")
            at += step
        start = content.find(_HEAP, start + 8)


def _stored(dataset: Any) -> Iterator[tuple[int, int]]:
    """Yield place and size of the references to texts; nothing where a filter has checked them."""
    if dataset.chunks is None:
        start, size = dataset.id.get_offset(), _REFERENCE.itemsize * int(dataset.size)
        if start is not None and dataset.id.get_storage_size() == size:
            yield int(start), size
    elif not _filters(dataset):
        for i in range(int(dataset.id.get_num_chunks())):
            chunk = dataset.id.get_chunk_info(i)
            yield int(chunk.byte_offset), int(chunk.size) // 16 * 16


def read_offsets(group: Any) -> np.ndarray:
    """Return the checked offsets of a jagged column.

    Raises:
        ValueError: If they do not start at 0, decrease, or do not end at the end of the content.
    """
    import h5py

    offsets, content = group["offsets"], group["content"]
    for name, dataset in (("offsets", offsets), ("content", content)):
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            raise ValueError(f"'{name}' is no array")
        require_sound(dataset)
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise ValueError("'offsets' is no list of whole numbers")
    found = offsets[:]
    if found.dtype.kind == "u" and found.max() > np.iinfo(np.int64).max:
        raise ValueError("its offsets are too large")
    found = found.astype(np.int64)
    if found[0] != 0 or (np.diff(found) < 0).any() or found[-1] != len(content):
        raise ValueError(
            f"its offsets must rise from 0 to the {len(content)} entries of its content, but run "
            f"from {found[0]} to {found[-1]}"
            + (" and fall in between" if (np.diff(found) < 0).any() else "")
        )
    return found


def broken(error: BaseException) -> str:
    """Return why a member cannot be read."""
    return reason_of(error).strip("\"'")
