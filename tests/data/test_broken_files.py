"""Damaged and hostile files: one error that names the file; no crash, no foreign memory."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from difana._errors import InputError
from difana.data import (
    convert,
    from_arrays,
    read_events,
    to_hdf5,
    to_parquet,
)

SIZE = 300


def jagged(path: Path, offsets) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
        file["j/content"], file["j/offsets"] = np.arange(6.0), np.asarray(offsets)
    return path


OFFSETS = {
    "far outside": ([0, 2, 3, 10_000_000], "rise from 0 to the 6 entries"),
    "one too few": ([0, 2, 3, 5], "rise from 0 to the 6 entries"),
    "falling": ([0, 4, 2, 6], "fall in between"),
    "negative": ([0, -3, 2, 6], "fall in between"),
    "not from zero": ([1, 2, 3, 6], "run from 1 to 6"),
    "unsigned and huge": (np.array([0, 2, 3, 2**64 - 1], np.uint64), "offsets are too large"),
    "fractions": ([0.0, 1.5, 3.0, 6.0], "no list of whole numbers"),
    "table": (np.zeros((4, 2), int), "no list of whole numbers"),
}


@pytest.mark.parametrize("case", OFFSETS)
@pytest.mark.parametrize("target", [None, ".root", ".parquet"])
def test_offsets_of_hdf5(tmp_path, case, target):
    offsets, message = OFFSETS[case]
    path = jagged(tmp_path / "bad.h5", offsets)
    if target is None:
        with pytest.raises(InputError, match=rf"dataset 'j' of group '/' of '.*bad.h5'.*{message}"):
            read_events(path, columns=["x"], particles=["j"])
        # entries before the broken ones are refused, too: nothing tells which are right
        with pytest.raises(InputError, match=message):
            read_events(path, columns=["sum(j)"], entry_stop=1)
        assert read_events(path, columns=["x"]).features.ravel().tolist() == [0.0, 1.0, 2.0]
    else:
        report = convert(path, tmp_path / f"a{target}")
        assert report.converted == ("x",)
        assert message in report.skipped["j"]


def test_good_offsets_in_ranges(tmp_path):
    path = jagged(tmp_path / "good.h5", np.array([0, 2, 2, 6], np.uint32))
    for start, stop, sums in ((0, 3, [1, 0, 14]), (1, 3, [0, 14]), (2, 3, [14])):
        events = read_events(path, columns=["sum(j)"], entry_start=start, entry_stop=stop)
        assert events.features.ravel().tolist() == sums


def test_links_that_lead_nowhere_matter_only_when_asked_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["y"] = np.arange(3.0) + 5
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3.0)
        file["gone"] = h5py.SoftLink("/nothing")
        file["outside"] = h5py.ExternalLink("missing.h5", "/x")
        file["pipe"] = h5py.ExternalLink("pipe.h5", "/x")
        file["other"] = h5py.ExternalLink("other.h5", "/y")
        file["loop/again"] = h5py.SoftLink("/loop")
        file["loop/z"] = np.arange(3.0)
        file["empty"] = h5py.Empty("f8")
    path = tmp_path / "a.h5"
    events = read_events(path, columns=["x", "other", "`loop/z`"])
    assert events.features[0].tolist() == [0.0, 5.0, 0.0]
    for name in ("gone", "outside", "pipe"):
        with pytest.raises(InputError, match=rf"cannot read dataset '{name}' of .*a\.h5'"):
            read_events(path, columns=["x", name])
    report = convert(path, tmp_path / "a.root")
    assert set(report.converted) == {"x", "other", "loop/z"}
    assert set(report.skipped) == {"gone", "outside", "pipe"}


def test_sizes_declared_by_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
        file.create_dataset("unwritten", shape=(10**13,), dtype="f8", chunks=(2**20,))
        file.create_dataset("half", shape=(4,), maxshape=(None,), dtype="f8", chunks=(2,))
        file["half"][:2] = 1.0
        layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
        layout[:] = h5py.VirtualSource("gone.h5", "x", shape=(3,))
        file.create_virtual_dataset("virtual", layout, fillvalue=7.0)
    for name, message in (("half", "chunks were written"), ("virtual", "'gone.h5' is not there")):
        with h5py.File(path) as file, h5py.File(tmp_path / f"{name}.h5", "w") as other:
            file.copy(name, other)
            del file
        with pytest.raises(InputError, match=message):
            read_events(tmp_path / f"{name}.h5", columns=[name])
    with pytest.raises(InputError, match=r"most others 3|chunks"):
        read_events(path, columns=["unwritten"])


def test_texts_of_hdf5_that_would_never_end(tmp_path):
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["s"] = np.arange(50.0), [f"name {i}" for i in range(50)]
    whole = path.read_bytes()
    heap = whole.index(b"GCOL")
    assert len(read_events(path, columns=["x"], selection="s == 'name 7'")) == 1
    for hurt in (
        whole[: heap + 16] + bytes(400) + whole[heap + 416 :],
        whole[: heap + 24] + b"\xff" * 8 + whole[heap + 32 :],
    ):
        path.write_bytes(hurt)
        faulthandler.dump_traceback_later(60, exit=True)  # nothing else ends a loop in C
        try:
            with pytest.raises(InputError, match=r"cannot read dataset 's' of .*texts.h5'"):
                read_events(path, columns=["x"], selection="s == 'a'")
        finally:
            faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 5, SIZE)
    columns = {
        "x": rng.normal(size=SIZE),
        "event": np.arange(SIZE),
        "j": ak.unflatten(rng.normal(size=counts.sum()), counts),
    }
    for name, compression in (("plain", None), ("zlib", uproot.ZLIB(1))):
        with uproot.recreate(folder / f"{name}.root", compression=compression) as file:
            types = {"x": "float64", "event": "int64", "j": "var * float64"}
            file.mktree("t", types).extend(columns)
    return folder


def test_offsets_of_root(trees, tmp_path):
    whole = (trees / "plain.root").read_bytes()
    with uproot.open(trees / "plain.root") as file:
        basket = file["t"]["j"].basket(0)
        start = whole.index(basket.data.tobytes())
        wrong = []
        for place in range(start + basket.data.nbytes, start + basket.data.nbytes + 400, 37):
            hurt = bytearray(whole)
            hurt[place] ^= 0x7F
            (tmp_path / "hurt.root").write_bytes(hurt)
            try:
                read_events(tmp_path / "hurt.root", columns=["x", "sum(j)"])
            except InputError as error:
                wrong.append("hurt.root" in str(error))
    assert len(wrong) > 5
    assert all(wrong)


def test_a_branch_whose_name_nothing_finds(tmp_path):
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as file:
        file.mktree("t", {"x": "float64", "Q": "float64"}).extend({"x": [1.0], "Q": [2.0]})
    path.write_bytes(path.read_bytes().replace(b"\x01Q", b"\x01/"))
    report = convert(path, tmp_path / "a.h5")
    assert report.converted == ("x",)
    assert list(report.skipped) == ["/"]


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(whole)
    place, kind = int(rng.integers(len(content))), int(rng.integers(5))
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        content[place : place + 8] = b"\xff" * len(content[place : place + 8])
    elif kind == 2:
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    else:
        for _ in range(int(rng.integers(1, 6))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(content)


@pytest.mark.parametrize("suffix", [".root", ".h5", ".parquet"])
def test_damage_is_an_error_that_names_the_file(trees, tmp_path, suffix):
    good = tmp_path / f"good{suffix}"
    convert(trees / "zlib.root", good)
    whole, rng = good.read_bytes(), np.random.default_rng(7)
    path = tmp_path / f"hurt{suffix}"
    right = np.asarray(read_events(good, columns=["x", "event"], particles=["j"]).features)
    refused = []
    for _ in range(60):
        path.write_bytes(damaged(whole, rng))
        try:
            events = read_events(path, columns=["x", "event"], particles=["j"])
        except InputError as error:
            refused.append(path.name in str(error))
        else:  # everything that difana writes is checked by sums, apart from ROOT
            if suffix != ".root":
                np.testing.assert_array_equal(events.features, right)
    assert len(refused) > 10
    assert all(refused)


def test_own_files_have_checksums(tmp_path):
    rng = np.random.default_rng(1)
    events = from_arrays(rng.normal(size=(2000, 1)), columns=["x"])
    for write, suffix in ((to_hdf5, "h5"), (to_parquet, "parquet")):
        path = write(events, tmp_path / f"a.{suffix}")
        whole = path.read_bytes()
        middle = len(whole) // 3
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(InputError, match=rf"cannot read .* 'x' of .*a.{suffix}'"):
            read_events(path, columns=["x"])
    with h5py.File(to_hdf5(events, tmp_path / "b.h5")) as file:
        assert file["x"].fletcher32


def test_pages_of_parquet_are_checked(tmp_path):
    table = pa.table({"x": np.arange(4000.0)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    whole = path.read_bytes()
    middle = whole.index(np.float64(2000).tobytes())
    path.write_bytes(whole[:middle] + np.float64(2001).tobytes() + whole[middle + 8 :])
    with pytest.raises(InputError, match=r"column 'x' of parquet file '.*a.parquet'.*CRC"):
        read_events(path, columns=["x"])


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.root")
    with pytest.raises(InputError, match=r"pipe.root' is a device or pipe"):
        read_events(tmp_path / "pipe.root", columns=["x"])
    for name in ("a\0b.root", "x" * 300 + ".root", "~nobody-knows/a.root"):
        with pytest.raises(InputError, match=r"a.b\.root|xxx\.root|a\.root"):
            read_events(name, columns=["x"])
