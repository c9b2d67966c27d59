"""Missing values: nulls of parquet, masked arrays; in every slice the same."""

from __future__ import annotations

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from difana._errors import InputError
from difana.data import convert, from_arrays, iterate_events, read_events, read_identifiers
from difana.data.parquet import ParquetTable

SIZE = 50
RNG = np.random.default_rng(11)
HOLES = RNG.uniform(size=SIZE) < 0.2
FLOATS = [None if hole else float(i) for i, hole in enumerate(HOLES)]
NUMBERS = [None if hole else 2**60 + i for i, hole in enumerate(HOLES)]
SMALL = [None if hole else i for i, hole in enumerate(HOLES)]
LISTS = [None if i % 9 == 8 else [None if i % 7 == 6 else float(i)] * (i % 4) for i in range(SIZE)]
TEXTS = [None if hole else f"t{i}" for i, hole in enumerate(HOLES)]
TABLE = pa.table(
    {
        "x": pa.array(FLOATS, pa.float64()),
        "id": pa.array(NUMBERS, pa.int64()),
        "n": pa.array(SMALL, pa.int32()),
        "j": pa.array(LISTS, pa.list_(pa.float64())),
        "s": TEXTS,
        "flag": [None if hole else i % 2 == 0 for i, hole in enumerate(HOLES)],
        "i": np.arange(SIZE),
    }
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("missing") / "a.parquet"
    pq.write_table(TABLE, path, row_group_size=20)
    return path


def test_every_slice_has_its_own_nulls(path):
    table = ParquetTable(str(path))
    for name in TABLE.column_names:
        expected = TABLE.column(name).to_pylist()
        for start, stop in ((0, SIZE), (3, 7), (8, 9), (13, 27), (20, 40), (41, SIZE)):
            found = ak.to_list(table.read(name, start, stop))
            assert found == expected[start:stop], (name, start, stop)
    table.close()


@pytest.mark.parametrize("chunk_size", [1, 3, 8, 20])
def test_values_behind_a_selection_are_those_of_the_file(path, chunk_size):
    chunks = list(
        iterate_events(path, columns=["x", "i"], selection="isfinite(x)", chunk_size=chunk_size)
    )
    found = np.concatenate([chunk.features for chunk in chunks])
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_array_equal(found[:, 1], np.flatnonzero(~HOLES))


def test_a_null_is_reported_where_it_lies(path):
    first = int(np.argmax(HOLES))
    with pytest.raises(InputError, match=rf"in {HOLES.sum()} of 50 .* first at entry {first}\."):
        read_events(path, columns=["x"])
    later = 10 + int(np.argmax(HOLES[10:]))
    with pytest.raises(InputError, match=rf"first at entry {later}\."):
        read_events(path, columns=["n"], entry_start=10)
    with pytest.raises(InputError, match=rf"selection 'flag' is missing .*first at entry {first}"):
        read_events(path, columns=["i"], selection="flag")
    with pytest.raises(InputError, match=rf"'id' is missing \(null\).*first at entry {first}"):
        read_events(path, columns=["id"])
    with pytest.raises(InputError, match="missing"):
        read_events(path, columns=["i"], particles=["j"])


def test_large_identifiers_stay_exact_beside_nulls(path):
    found = read_identifiers(path, columns=["id"], selection="isfinite(id)")["id"]
    assert found.tolist() == [number for number in NUMBERS if number is not None]
    assert found.dtype == np.int64
    shifted = read_identifiers(path, columns=["id - 1 + n % 1"], selection="isfinite(id)")
    assert shifted["id - 1 + n % 1"][0] == NUMBERS[int(np.argmin(HOLES))] - 1
    with pytest.raises(InputError, match="identifier 'id' 'id' is missing"):
        read_identifiers(path, columns=["id"])


def test_missing_texts_equal_nothing(path):
    count = int((~HOLES).sum())
    assert len(read_events(path, columns=["i"], selection="s != 't1'")) == SIZE - 1
    assert len(read_events(path, columns=["i"], selection="fill(s, 'none') == 'none'")) == (
        SIZE - count
    )
    with pytest.raises(InputError, match=r"column 's' 's' is missing \(null\).*fill\(x, 'none'\)"):
        read_events(path, columns=["s"])
    assert read_events(path, columns=["fill(x, -1)"]).features.min() == -1


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_conversion_to_parquet_keeps_nulls_and_types(path, tmp_path, chunk_size):
    report = convert(path, tmp_path / "b.parquet", chunk_size=chunk_size)
    assert not report.skipped
    found = pq.read_table(tmp_path / "b.parquet")
    assert found.schema.types == TABLE.schema.types
    assert found.to_pylist() == TABLE.to_pylist()


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
@pytest.mark.parametrize("suffix", [".root", ".h5"])
def test_conversion_to_other_formats(path, tmp_path, chunk_size, suffix):
    report = convert(path, tmp_path / f"b{suffix}", chunk_size=chunk_size)
    assert set(report.skipped) == {"id", "j", "s"}
    assert all("null" in reason for reason in report.skipped.values())
    if suffix == ".root":
        with uproot.open(f"{tmp_path}/b.root:events") as tree:
            found = {name: tree[name].array(library="np") for name in ("x", "n", "flag", "i")}
    else:
        with h5py.File(tmp_path / "b.h5") as file:
            found = {name: file[name][:] for name in ("x", "n", "flag", "i")}
    for name, values in found.items():
        expected = [np.nan if v is None else v for v in TABLE.column(name).to_pylist()]
        np.testing.assert_array_equal(values, np.array(expected, float), err_msg=name)


def test_masked_arrays():
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    with pytest.raises(InputError, match=r"column 'x' 'x' is not finite.* first at entry 1"):
        from_arrays({"x": masked})
    whole = np.ma.array([1, 2], mask=[False, False])
    assert from_arrays({"x": whole})["x"].tolist() == [1.0, 2.0]
