"""Conversion: every column arrives under some name, or is refused by name; a full disk is said."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difana._errors import InputError
from difana.data import convert, from_arrays, to_hdf5, to_parquet, to_root
from difana.data._names import target_names
from difana.data.hdf5 import Hdf5Table
from difana.data.parquet import ParquetTable
from difana.data.root import RootTable

TABLES = {".root": RootTable, ".h5": Hdf5Table, ".parquet": ParquetTable}
HOSTILE = {
    "slash and underscore": ["a/b", "a_b", "c", "a//b", "/a/b", "a/b/"],
    "dataset and group": ["a", "a/b", "a/b/c"],
    "dots": [".", "..", "", "./a", "a/../b", "a.b", ".a", "a."],
    "looks like lists": ["x/content", "x/offsets", "x", "y/offsets"],
    "case": ["Pt", "pt", "PT"],
    "counters": ["n", "nn", "njets", "jets_count", "x"],
    "letters": ["µ", "μ", "größe", "日本", "a b", "a\tb", "x[3]", "x:y", "x;1", "{", "'", '"', "`"],
    "numbers": ["1", "1_2", "-", "+", "_", "__", "a_", "a__2", "a_2"],
    "words": ["content", "offsets", "events", "weight", "nan", "True", "class"],
    "long": ["a" * 200, "a" * 199 + "b"],
}


def contents(path, suffix) -> dict:
    table = TABLES[suffix](str(path))
    try:
        return {name: ak.to_list(table.read(name, 0, table.entries)) for name in table.columns()}
    finally:
        table.close()


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("kind", ["flat", "jagged", "mixed"])
def test_all_columns_arrive(tmp_path, case, suffix, kind):
    names = HOSTILE[case]
    arrays = {}
    for i, name in enumerate(names):
        lists = kind == "jagged" or (kind == "mixed" and i % 2)
        arrays[name] = (
            pa.array([[float(i)] * (i + k) for k in range(3)])
            if lists
            else pa.array([i, -i, 7 * i])
        )
    pq.write_table(pa.table(arrays), tmp_path / "a.parquet")
    report = convert(tmp_path / "a.parquet", tmp_path / f"b{suffix}", chunk_size=2)
    assert set(report.converted) == set(names)
    found = contents(tmp_path / f"b{suffix}", suffix)
    for name in names:
        assert found[report.renamed.get(name, name)] == arrays[name].to_pylist(), name
    assert all(f"renamed '{name}' to " in str(report) for name in report.renamed)
    again = convert(tmp_path / f"b{suffix}", tmp_path / "c.parquet")
    assert len(again.converted) == len(found) - len(again.skipped)
    assert not again.skipped


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.text(alphabet="ab/_.2", max_size=6), min_size=1, max_size=8, unique=True),
    st.sampled_from([".root", ".h5", ".parquet"]),
)
def test_names_never_clash(names, suffix):
    found = target_names(names, suffix)
    values = list(found.values())
    assert list(found) == names
    assert len(set(values)) == len(values)
    if suffix == ".h5":
        for value in values:
            assert not any(other.startswith(f"{value}/") for other in values)
            assert value
            assert not {"", ".", ".."} & set(value.split("/"))


def test_names_of_datasets_in_groups_stay(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["in/x"], file["in/y"], file["z"] = np.arange(2.0), np.arange(2.0), np.arange(2.0)
    report = convert(tmp_path / "a.h5", tmp_path / "b.hdf5")
    assert not report.renamed
    with h5py.File(tmp_path / "b.hdf5") as file:
        assert set(file["in"]) == {"x", "y"}
    assert convert(tmp_path / "a.h5", tmp_path / "b.root").renamed == {
        "in/x": "in_x",
        "in/y": "in_y",
    }


def test_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1, 2])] * 3, names=["x", "x", "y"])
    pq.write_table(table, tmp_path / "a.parquet")
    for suffix in TABLES:
        report = convert(tmp_path / "a.parquet", tmp_path / f"b{suffix}")
        assert report.converted == ("y",)
        assert "2 columns named 'x'" in report.skipped["x"]


def test_writers_rename_with_a_warning(tmp_path):
    events = from_arrays({"a/b": [1.0], "a": [2.0]}, columns=["`a/b`", "a"])
    for write, suffix in ((to_root, ".root"), (to_hdf5, ".h5")):
        path = tmp_path / f"a{suffix}"
        with pytest.warns(UserWarning, match=r"column 'a/b' is written as 'a_b' to '.*a\."):
            write(events, path)
        assert contents(path, suffix) == {"a_b": [1.0], "a": [2.0], "weight": [1.0]}
    to_parquet(events, tmp_path / "a.parquet")
    assert set(contents(tmp_path / "a.parquet", ".parquet")) == {"a/b", "a", "weight"}


def test_a_text_that_hdf5_cannot_hold(tmp_path):
    pq.write_table(pa.table({"s": ["a\0b", "c"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet': column 's' has a text with a null char"):
        convert(tmp_path / "a.parquet", tmp_path / "b.h5")
    assert not list(tmp_path.glob("*.h5"))


LIMITED = """
    import resource, sys
    import numpy as np
    from difana._errors import InputError
    from difana.data import convert
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    for target in sys.argv[2:]:
        try:
            convert(sys.argv[1], target, chunk_size=5000)
        except InputError as error:
            print("refused:", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    for target in sys.argv[2:]:
        convert(sys.argv[1], target, chunk_size=5000)
    print("done")
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    rng = np.random.default_rng(3)
    lists = ak.unflatten(rng.normal(size=60_000), 3)
    table = {"x": rng.normal(size=20_000), "j": ak.to_arrow(lists, extensionarray=False),
             "s": [f"event {i}" for i in range(20_000)]}  # fmt: skip
    folder = tmp_path / "out"
    folder.mkdir()
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    targets = [str(folder / f"b{suffix}") for suffix in (".h5", ".root", ".parquet")]
    (folder / "b.h5").write_bytes(b"the old file")
    # the limit on the size of files acts as a full disk does, and needs no mount
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path / "a.parquet"), *targets],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line, target in zip(lines, targets, strict=False):
        assert line.startswith(f"refused: cannot write '{target}': ")
        assert "File too large" in line
    assert lines[-1] == "done"
    assert sorted(path.name for path in folder.iterdir()) == ["b.h5", "b.parquet", "b.root"]
    assert len(contents(folder / "b.h5", ".h5")["x"]) == 20_000
