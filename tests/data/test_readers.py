from __future__ import annotations

import awkward as ak
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from difana._errors import InputError
from difana.data import (
    from_arrays,
    iterate_events,
    read_events,
    read_identifiers,
    split,
)

SIZE = 30
RNG = np.random.default_rng(5)
JET_PT = ak.sort(ak.unflatten(RNG.uniform(20, 100, 49), [2, 0, 3] * 9 + [1, 2, 1]), ascending=False)
TABLE = {
    "met": RNG.uniform(10, 90, SIZE).astype(np.float32),
    "weight": RNG.uniform(0.5, 1.5, SIZE),
    "event": np.arange(SIZE, dtype=np.int64) + 2**60,
    "good": RNG.uniform(size=SIZE) > 0.3,
    "jet_pt": JET_PT,
    "jet_eta": JET_PT / 50,
    "cells": RNG.uniform(size=(SIZE, 3)),
}
WHAT = {
    "columns": {"met": "met", "ht": "sum(jet_pt)", "lead": "at(jet_pt, 0, 0)"},
    "weight": "2 * weight",
    "selection": "good and met > 20",
    "particles": ["jet_pt", "jet_eta"],
    "max_particles": 2,
}


def write_root(path, tables: dict, **trees) -> None:
    with uproot.recreate(path) as file:
        for name, columns in trees.items() or [("events", tables)]:
            file.mktree(
                name,
                {
                    key: np.dtype((array.dtype, array.shape[1:]))
                    if isinstance(array, np.ndarray)
                    else ak.type(array).content
                    for key, array in columns.items()
                },
            )
            file[name].extend(columns)


def write_hdf5(path, table: dict) -> None:
    with h5py.File(path, "w") as file:
        for name, array in table.items():
            if isinstance(array, np.ndarray):
                file[name] = array
            else:
                file[f"{name}/content"] = ak.to_numpy(ak.flatten(array))
                offsets = np.concatenate([[0], np.cumsum(ak.num(array))])
                file[f"{name}/offsets"] = offsets


def write_parquet(path, table: dict) -> None:
    columns = {name: pa.array(ak.to_list(array)) for name, array in table.items()}
    pq.write_table(pa.table(columns), path, row_group_size=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    write_root(folder / "a.root", TABLE)
    write_hdf5(folder / "a.h5", TABLE)
    write_parquet(folder / "a.parquet", TABLE)
    for i, rows in enumerate((slice(0, 11), slice(11, SIZE))):
        write_root(folder / f"part{i}.root", {name: array[rows] for name, array in TABLE.items()})
    return folder


@pytest.fixture(scope="module")
def expected():
    rows = np.flatnonzero(TABLE["good"] & (TABLE["met"] > 20))
    jets = [JET_PT[i].tolist() for i in rows]
    padded = [[*pts[:2], 0.0, 0.0][:2] for pts in jets]
    return {
        "features": [
            [TABLE["met"][i], sum(pts), pts[0] if pts else 0.0]
            for i, pts in zip(rows, jets, strict=True)
        ],
        "weights": 2 * TABLE["weight"][rows],
        "particles": padded,
        "mask": [[len(pts) > 0, len(pts) > 1] for pts in jets],
        "rows": rows,
    }


def check(events, expected) -> None:
    np.testing.assert_allclose(events.features, expected["features"], rtol=1e-6)
    np.testing.assert_allclose(events.weights, expected["weights"], rtol=1e-12)
    np.testing.assert_allclose(events.particles[..., 0], expected["particles"], rtol=1e-6)
    np.testing.assert_allclose(events.particles[..., 1] * 50, expected["particles"], rtol=1e-6)
    np.testing.assert_array_equal(events.mask, expected["mask"])
    assert events.columns == ("met", "ht", "lead")
    assert events.particle_columns == ("jet_pt", "jet_eta")
    assert events.features.dtype == jnp.float32
    assert events.weights.dtype == jnp.float64


SOURCES = {
    "root": lambda d: read_events(d / "a.root", tree="events", **WHAT),
    "root, tree in the path": lambda d: read_events(f"{d}/a.root:events", **WHAT),
    "root, glob": lambda d: read_events(d / "part*.root", **WHAT),
    "root, list": lambda d: read_events([d / "part0.root", f"{d}/part1.root"], **WHAT),
    "hdf5": lambda d: read_events(d / "a.h5", **WHAT),
    "parquet": lambda d: read_events(d / "a.parquet", **WHAT),
    "any": lambda d: read_events([d / "part0.root", d / "part1.root"], tree="events", **WHAT),
    "arrays": lambda d: from_arrays(
        TABLE, WHAT["weight"], **{k: v for k, v in WHAT.items() if k != "weight"}
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_all_sources_give_the_same_events(folder, expected, source):
    check(SOURCES[source](folder), expected)


@pytest.mark.parametrize("files", ["a.root", "part*.root", "a.h5", "a.parquet"])
@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_chunks_are_the_whole(folder, expected, files, chunk_size):
    chunks = list(iterate_events(folder / files, chunk_size=chunk_size, **WHAT))
    whole = type(chunks[0])(
        *(
            jnp.concatenate([getattr(chunk, name) for chunk in chunks])
            for name in ("features", "weights", "particles", "mask")
        ),
        columns=chunks[0].columns,
        particle_columns=chunks[0].particle_columns,
    )
    check(whole, expected)
    assert max(map(len, chunks)) <= chunk_size


@pytest.mark.parametrize("reader", ["a.root", "part*.root", "a.h5", "a.parquet"])
def test_entry_ranges_count_through_all_files(folder, reader):
    for start, stop in ((None, 5), (5, 17), (11, None), (9, 12)):
        found = read_events(folder / reader, columns=["met"], entry_start=start, entry_stop=stop)
        np.testing.assert_array_equal(found["met"], TABLE["met"][start:stop])


def test_identifiers_have_the_rows_of_the_events(folder, expected):
    for name in ("a.root", "part?.root", "a.h5", "a.parquet"):
        found = read_identifiers(folder / name, columns=["event"], selection=WHAT["selection"])
        np.testing.assert_array_equal(found["event"], TABLE["event"][expected["rows"]])


def test_aliases_units_dtype_and_padding_to_the_largest(folder):
    events = read_events(
        folder / "a.root",
        columns=["ht", "y"],
        aliases={"ht": "sum(jet_pt)", "y": "ht / met", "met": "`met` * 1"}
        | {"met": "event * 0 + 2"},
        units={"ht": "GeV"},
        particles={"pt": "jet_pt[jet_pt > 40]"},
        dtype=np.float64,
    )
    np.testing.assert_allclose(events["y"], events["ht"] / 2)
    assert events.units == ("GeV", "")
    assert events.features.dtype == jnp.float64
    assert events.particles.shape[1] == ak.max(ak.num(JET_PT[JET_PT > 40]))
    assert events.particle_columns == ("pt",)


def test_fixed_arrays_are_particles_or_indexed(folder):
    for name in ("a.root", "a.h5", "a.parquet"):
        events = read_events(folder / name, columns=["cells[:, 1]"], particles=["cells"])
        np.testing.assert_allclose(events.particles[..., 0], TABLE["cells"], rtol=1e-6)
        np.testing.assert_allclose(events.features[:, 0], TABLE["cells"][:, 1], rtol=1e-6)
        assert events.mask.all()


def test_hdf5_groups_paths_and_compound_tables(tmp_path):
    compound = np.array([(1.0, 2), (3.0, 4)], dtype=[("pt", "f4"), ("charge", "i4")])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["in/put/pt"] = np.array([1.0, 2.0])
        file["in/edges"] = np.arange(4.0)
        file["in/y"] = np.array([5.0, 6.0])
        file["table"] = compound
    path = tmp_path / "a.h5"
    events = read_events(path, columns={"a": "in/put/pt", "b": "`in/y` + 1"})
    assert events.features.tolist() == [[1.0, 6.0], [2.0, 7.0]]
    assert read_events(path, tree="in", columns=["put/pt"]).features.tolist() == [[1.0], [2.0]]
    assert read_events(path, tree="table", columns=["pt"]).features.tolist() == [[1.0], [3.0]]
    assert read_events(path, columns=["table/charge"]).features.tolist() == [[2.0], [4.0]]
    with pytest.raises(InputError, match=r"no group 'tablex' in .*Did you mean 'table'"):
        read_events(path, tree="tablex", columns=["pt"])
    with pytest.raises(InputError, match=r"dataset 'in/edges' .* has 4 entries, most others 2"):
        read_events(path, columns=["in/edges"])


def test_arrays_of_all_kinds():
    plain = from_arrays([[1, 2], [3, 4]], [1, 2])
    assert plain.columns == ("x0", "x1")
    assert plain.weights.tolist() == [1.0, 2.0]
    named = from_arrays(np.eye(2), columns=["a", "b"], selection="a > 0", units=["GeV", ""])
    assert named.features.tolist() == [[1.0, 0.0]]
    assert named.units == ("GeV", "")
    mapped = from_arrays({"x": [1.0, 2.0], "w": [3.0, 4.0]}, "w", columns=["x"])
    assert mapped.weights.tolist() == [3.0, 4.0]
    assert from_arrays(jnp.ones((2, 1))).features.shape == (2, 1)


def test_single_precision_raises_no_warning(folder):
    with jax.enable_x64(False):  # noqa: FBT003
        events = read_events(folder / "a.root", columns=["met"], weight="weight", dtype=np.float64)
        assert events.features.dtype == events.weights.dtype == jnp.float32
        part, _ = split(events, (0.5, 0.5))
        assert part.weights.dtype == jnp.float32


def test_public_files(data_dir):
    events = read_events(
        data_dir / "root" / "uproot-HZZ.root",
        columns={
            "mass": "sqrt((Muon_E[:,0] + Muon_E[:,1])**2 - (Muon_Px[:,0] + Muon_Px[:,1])**2"
            " - (Muon_Py[:,0] + Muon_Py[:,1])**2 - (Muon_Pz[:,0] + Muon_Pz[:,1])**2)"
        },
        selection="NMuon >= 2 and at(Muon_Charge, 0, 0) * at(Muon_Charge, 1, 0) < 0",
        weight="EventWeight",
    )
    assert 85 < float(jnp.median(events["mass"])) < 95
    nano = read_events(
        data_dir / "root" / "nanoAOD_2015_CMS_Open_Data_ttbar.root",
        columns=["MET_pt", "nJet - 20"],
        particles=["Jet_pt", "Jet_eta"],
    )
    assert len(nano) == 200
    np.testing.assert_array_equal(nano.mask.sum(axis=1), nano["nJet - 20"] + 20)
    higgs = read_events(
        data_dir / "higgs" / "higgs_tautau_1000.parquet",
        columns=["DER_mass_vis"],
        weight="weights",
        selection="detailed_labels == 'htautau' or PRI_met > 0",
    )
    np.testing.assert_allclose(higgs.total(), 1_051_433, rtol=1e-3)
