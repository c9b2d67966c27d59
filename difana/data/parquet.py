"""Events from parquet files, through pyarrow."""

from __future__ import annotations

from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data._table import (
    AbstractTable,
    existing,
    reason_of,
    reraise_stop,
)


class ParquetTable(AbstractTable):
    """One parquet file."""

    kind = "column"

    def __init__(self, path: str) -> None:
        """Open the file and read its schema."""
        import pyarrow.parquet as pq

        size = existing(path).stat().st_size
        self.label = f"parquet file '{path}'"
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True, memory_map=False)
        except BaseException as error:
            reraise_stop(error)
            raise InputError(
                f"cannot read '{path}': it is truncated or no parquet file ({reason_of(error)})"
            ) from error
        try:
            self._describe(size)
        except BaseException as error:
            self._file.close()
            reraise_stop(error)
            raise InputError(f"cannot read '{path}': it is broken ({reason_of(error)})") from error

    def _describe(self, size: int) -> None:
        """Keep names, leaves and row groups, and check them against the size of the file."""
        metadata, schema = self._file.metadata, self._file.schema_arrow
        rows = []
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            rows.append(int(group.num_rows))
            for j in range(group.num_columns):
                chunk = group.column(j)
                if not 0 <= int(chunk.total_compressed_size) <= size:
                    raise ValueError(f"column '{chunk.path_in_schema}' is larger than the file")
        if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
            raise ValueError(f"it declares {metadata.num_rows} rows in groups of {rows[:5]}")
        self.entries = int(metadata.num_rows)
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64)
        self._columns = tuple(schema.names)
        ends = np.cumsum([_leaves(field.type) for field in schema], dtype=int).tolist()
        self._leaves = {
            name: list(range(start, end))
            for name, start, end in zip(self._columns, [0, *ends], ends, strict=False)
        }
        if ends and ends[-1] != metadata.num_columns:
            raise ValueError("its schemas differ")

    def names(self) -> frozenset[str]:
        """Return the column names."""
        return frozenset(self._columns)

    def columns(self) -> tuple[str, ...]:
        """Return the column names in the order of the file."""
        return self._columns

    def read(self, name: str, start: int, stop: int) -> Any:
        """Return a range of a column; missing values are missing in awkward."""
        import awkward as ak
        import pyarrow as pa

        column, offset = self._overlapping(name, start, stop)
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column = column.cast(pa.large_string())
        # awkward reads the bitmap of a sliced arrow array from its first bit: slice afterwards
        whole = ak.from_arrow(column.combine_chunks())
        return whole[offset : offset + stop - start]

    def arrow(self, name: str, start: int, stop: int) -> Any:
        """Return a range of a column as it is, a chunked array of pyarrow."""
        try:
            column, offset = self._overlapping(name, start, stop)
        except InputError:
            raise
        except BaseException as error:
            reraise_stop(error)
            raise InputError(
                f"cannot read column '{name}' of {self.label}: it is broken ({reason_of(error)})"
            ) from error
        return column.slice(offset, stop - start)

    def missing(self, name: str) -> bool:
        """Say whether a column may have missing values."""
        metadata, leaves = self._file.metadata, self._leaves[name]
        if len(leaves) > 1 or self._file.schema.column(leaves[0]).max_repetition_level:
            return True
        for i in range(metadata.num_row_groups):
            found = metadata.row_group(i).column(leaves[0]).statistics
            if found is None or not found.has_null_count or found.null_count:
                return True
        return False

    def _overlapping(self, name: str, start: int, stop: int) -> tuple[Any, int]:
        """Return a column of the row groups that overlap a range, and where the range begins."""
        if self._columns.count(name) > 1:
            raise InputError(f"{self.label} has {self._columns.count(name)} columns named '{name}'")
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        groups = list(range(max(first, 0), max(last, first + 1)))
        groups = [group for group in groups if group < len(self._starts) - 1]
        # by position: a name with a dot would be taken for a path
        found = self._file.reader.read_row_groups(
            groups, column_indices=self._leaves[name], use_threads=True
        )
        rows = sum(int(self._starts[group + 1] - self._starts[group]) for group in groups)
        if found.num_columns != 1 or found.num_rows != rows:
            raise ValueError(f"{found.num_rows} values where {rows} are declared")
        column = found.column(0)
        column.validate(full=True)
        return column, start - int(self._starts[groups[0]]) if groups else 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _leaves(kind: Any) -> int:
    """Return how many columns of a parquet file hold a column of arrow."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    nested = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    return _leaves(kind.value_type) if nested else 1
