"""Writer of a parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from difana.data._sink import AbstractSink, layout_of, parts_of, plain


class ParquetSink(AbstractSink):
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        """Open the file at the first chunk, when the schema is known."""
        self._path = path
        self._writer: Any = None
        self._metadata: dict[str, str] = {}

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one chunk as a row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({name: _arrow(array) for name, array in columns.items()})
        if self._writer is None:
            table = table.replace_schema_metadata(self._metadata)
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="zstd", write_page_checksum=True
            )
        self._writer.write_table(table)

    def annotate(self, metadata: Mapping[str, str]) -> None:
        """Put the texts into the schema."""
        self._metadata = dict(metadata)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()


def _arrow(array: Any) -> Any:
    """Return a column as pyarrow array."""
    import awkward as ak
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        return array
    kind = layout_of(array)[0]
    if kind == "strings":
        return pa.array(ak.to_list(array), pa.string())
    if kind == "jagged":
        counts, content = parts_of(array)
        offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(content))
    array = np.asarray(plain(array))
    flat = pa.array(array.reshape(-1))
    for size in array.shape[:0:-1]:
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat
