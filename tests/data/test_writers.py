from __future__ import annotations

import awkward as ak
import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import uproot

from difana._errors import InputError
from difana.data import (
    Events,
    convert,
    read_events,
    to_hdf5,
    to_parquet,
    to_root,
)

FORMATS = {".root": to_root, ".h5": to_hdf5, ".parquet": to_parquet}
SIZE = 12
COUNTS = np.array([2, 0, 3] * 4)


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(3)
    mask = np.arange(3) < COUNTS[:, None]
    particles = np.where(mask[..., None], rng.uniform(size=(SIZE, 3, 2)), 0)
    return Events(
        jnp.asarray(rng.normal(size=(SIZE, 2)).astype(np.float32)),
        jnp.asarray(rng.uniform(size=SIZE)),
        jnp.asarray(particles.astype(np.float32)),
        jnp.asarray(mask),
        columns=("pt", "eta"),
        particle_columns=("part_pt", "part_eta"),
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_round_trip_of_events(events, tmp_path, suffix):
    path = FORMATS[suffix](
        events, tmp_path / f"a{suffix}", extra={"event": np.arange(SIZE) + 2**60}
    )
    again = read_events(
        path, columns=["pt", "eta"], weight="weight", particles=["part_pt", "part_eta"]
    )
    for name in ("features", "weights", "particles", "mask"):
        np.testing.assert_array_equal(getattr(again, name), getattr(events, name))
        assert getattr(again, name).dtype == getattr(events, name).dtype
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_names_are_made_where_missing(tmp_path):
    events = Events(jnp.ones((2, 2)), jnp.ones(2), jnp.ones((2, 3, 1)))
    path = to_hdf5(events, tmp_path / "a.h5")
    again = read_events(path, columns=["x0", "x1"], particles=["particle0"])
    assert again.particles.shape == (2, 3, 1)


def test_refused_writes_leave_the_old_file(events, tmp_path):
    path = to_root(events, tmp_path / "a.root")
    before = path.read_bytes()
    with pytest.raises(InputError, match="two columns to write are named 'pt'"):
        to_root(events, path, extra={"pt": np.zeros(SIZE)})
    with pytest.raises(InputError, match=f"column 'b' has 3 entries for {SIZE} events"):
        to_root(events, path, extra={"b": np.zeros(3)})
    with pytest.raises(InputError, match="column 'c' cannot be written: entries of type complex"):
        to_root(events, path, extra={"c": np.zeros(SIZE, complex)})
    with pytest.raises(InputError, match=r"must end in \.root, got"):
        to_root(events, tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"there is no folder '.*nowhere'"):
        to_root(events, tmp_path / "nowhere" / "a.root")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.root"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A ROOT file with every kind of column, in three baskets."""
    path = tmp_path_factory.mktemp("zoo") / "zoo.root"
    flat = {
        name: np.arange(SIZE).astype(name)
        for name in ("float32", "float64", "int8", "uint8", "int16", "uint32", "int64", "uint64")
    }
    jagged = ak.unflatten(np.arange(COUNTS.sum(), dtype=np.float32), COUNTS)
    columns = flat | {
        "flag": np.arange(SIZE) % 2 == 0,
        "cells": np.arange(SIZE * 6.0).reshape(SIZE, 6),
        "matrix": np.arange(SIZE * 4, dtype=np.int32).reshape(SIZE, 2, 2),
        "jet_pt": jagged,
        "jet_good": jagged > 5,
        "jet_id": ak.values_astype(jagged, np.int16),
        "hits": jagged[:, :1],
        "name": ak.Array([f"event {i}" for i in range(SIZE)]),
    }
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "events",
            {
                name: np.dtype((array.dtype, array.shape[1:]))
                if isinstance(array, np.ndarray)
                else ak.type(array).content
                for name, array in columns.items()
            },
        )
        for start in range(0, SIZE, 5):
            tree.extend({name: array[start : start + 5] for name, array in columns.items()})
    return path


def contents(path) -> dict:
    with uproot.open(path) as file:
        tree = file["events"]
        return {name: tree[name].array() for name in tree.keys()}  # noqa: SIM118


@pytest.mark.parametrize("suffix", [".h5", ".parquet", ".root"])
@pytest.mark.parametrize("chunk_size", [5, 1000])
def test_every_column_survives_the_way_there_and_back(zoo, tmp_path, suffix, chunk_size):
    report = convert(zoo, tmp_path / f"b{suffix}", chunk_size=chunk_size)
    assert not report.skipped
    assert report.entries == {"events": SIZE}
    convert(tmp_path / f"b{suffix}", tmp_path / "c.root", chunk_size=4)
    before, after = contents(zoo), contents(tmp_path / "c.root")
    assert set(report.converted) == set(before)
    assert set(after) == set(before)  # counters are not multiplied
    for name, array in before.items():
        assert ak.to_list(after[name]) == ak.to_list(array), name
        if suffix != ".parquet" or name != "flag":
            assert str(ak.type(after[name])) == str(ak.type(array)), name


def test_layout_of_hdf5(zoo, tmp_path):
    convert(zoo, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["flag"].dtype == bool
        assert file["cells"].shape == (SIZE, 6)
        assert file["jet_pt/content"].dtype == np.float32
        np.testing.assert_array_equal(np.diff(file["jet_pt/offsets"]), COUNTS)
        assert file["name"].asstr()[3] == "event 3"


def test_shared_counters_stay_shared(tmp_path):
    jets = ak.zip({"pt": [[1.0, 2.0], []], "eta": [[0.1, 0.2], []]})
    with uproot.recreate(tmp_path / "a.root") as file:
        tree = file.mktree("events", {"Jet": ak.type(jets).content, "nEl": "int32"})
        tree.extend({"Jet": jets, "nEl": np.array([5, 6], np.int32)})
    convert(tmp_path / "a.root", tmp_path / "b.h5")
    convert(tmp_path / "b.h5", tmp_path / "c.root")
    assert set(contents(tmp_path / "c.root")) == {"nJet", "Jet_pt", "Jet_eta", "nEl"}


def test_a_column_with_the_name_of_a_counter(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/content"], file["x/offsets"] = np.arange(3.0), np.array([0, 1, 3])
        file["nx"] = np.array([7, 8])
    convert(tmp_path / "a.h5", tmp_path / "b.root")
    found = contents(tmp_path / "b.root")
    assert found["nx"].tolist() == [7, 8]
    assert found["x"].tolist() == [[0.0], [1.0, 2.0]]


def test_several_trees(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        for name, size in (("one", 2), ("dir/two", 3)):
            file.mktree(name, {"x": "float32"}).extend({"x": np.arange(size, dtype=np.float32)})
    report = convert(tmp_path / "a.root", tmp_path / "b.h5")
    assert report.converted == ("one/x", "dir/two/x")
    assert len(read_events(tmp_path / "b.h5", tree="dir/two", columns=["x"])) == 3
    convert(tmp_path / "a.root", tmp_path / "c.root")
    assert len(read_events(tmp_path / "c.root", tree="dir/two", columns=["x"])) == 3
    convert(f"{tmp_path}/a.root:one", tmp_path / "d.parquet")
    assert len(read_events(tmp_path / "d.parquet", columns=["x"])) == 2
    with pytest.raises(InputError, match=r"several trees and parquet only one.*'one', 'dir/two'"):
        convert(tmp_path / "a.root", tmp_path / "e.parquet")


def test_skipped_columns_have_reasons(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3.0)
        file["c"] = np.zeros(3, complex)
        file["edges"] = np.arange(7.0)
    ak.to_parquet(
        ak.Array([{"x": 1, "deep": [[1], []], "names": ["a"]}] * 3), tmp_path / "a.parquet"
    )
    report = convert(tmp_path / "a.h5", tmp_path / "b.root")
    assert report.converted == ("x",)
    assert set(report.skipped) == {"c", "edges"}
    assert "complex" in report.skipped["c"]
    assert "7 entries" in report.skipped["edges"]
    assert "1 columns converted, 2 skipped" in str(report)
    report = convert(tmp_path / "a.parquet", tmp_path / "c.h5")
    assert report.skipped == {
        "deep": "lists nested more than once",
        "names": "lists of strings",
    }


def test_refused_conversions(zoo, tmp_path):
    with pytest.raises(InputError, match="the suffix must be one of"):
        convert(zoo, tmp_path / "a.txt")
    with pytest.raises(InputError, match="no file"):
        convert(tmp_path / "zoo.root", tmp_path / "a.h5")
    with pytest.raises(InputError, match="the same file"):
        convert(zoo, zoo)
    with pytest.raises(InputError, match="no tree 'eventz'"):
        convert(zoo, tmp_path / "a.h5", tree="eventz")
    with pytest.raises(InputError, match="chunk_size"):
        convert(zoo, tmp_path / "a.h5", chunk_size=0)
    assert not list(tmp_path.iterdir())


def test_public_files(data_dir, tmp_path):
    folder = data_dir / "root"
    nano = folder / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    report = convert(nano, tmp_path / "nano.parquet", chunk_size=150)
    assert len(report.converted) == 947
    assert not report.skipped
    source = folder / "uproot-HZZ.root"
    convert(source, tmp_path / "a.h5", chunk_size=1000)
    convert(tmp_path / "a.h5", tmp_path / "b.root")
    before, after = contents(source), contents(tmp_path / "b.root")
    assert set(before) <= set(after)
    for name, array in before.items():
        assert ak.array_equal(after[name], array, check_parameters=False), name
