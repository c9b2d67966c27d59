"""Each event once and in one part: files named twice, identifiers of other types, their digits."""

from __future__ import annotations

import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from difana._errors import InputError
from difana.data import (
    Events,
    Sample,
    ShiftedEvents,
    event_hash,
    from_arrays,
    iterate_events,
    read_events,
    read_identifiers,
    split,
)

SIZE = 400


def write(path, **columns) -> None:
    with uproot.recreate(path) as file:
        types = {name: np.asarray(column).dtype for name, column in columns.items()}
        file.mktree("t", types).extend({name: np.asarray(c) for name, c in columns.items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    write(folder / "a.root", x=np.arange(3.0))
    write(folder / "ab.root", x=np.arange(3.0) + 10)
    (folder / "sub").mkdir()
    (folder / "link.root").symlink_to(folder / "a.root")
    os.link(folder / "a.root", folder / "hard.root")
    return folder


TWICE = {
    "file and glob": ["a.root", "a*.root"],
    "two globs": ["a*.root", "?b.root", "a.root"],
    "the same text": ["a.root", "a.root", "ab.root"],
    "another way": ["sub/../a.root", "a.root", "ab.root"],
    "symbolic link": ["link.root", "a.root", "ab.root"],
    "hard link": ["hard.root", "ab.root", "a.root"],
    "tree named": ["a.root:t", "a.root:t", "ab.root"],
}


@pytest.mark.parametrize("case", TWICE)
def test_a_file_counts_once(folder, case):
    files = [str(folder / name) for name in TWICE[case]]
    with pytest.warns(UserWarning, match="(named twice|which is named, too): it"):
        events = read_events(files, columns=["x"])
    assert sorted(np.asarray(events["x"]).tolist()) == [0, 1, 2, 10, 11, 12]
    with pytest.warns(UserWarning, match="it is read once"):
        found = read_identifiers(files, columns=["x"])
    assert len(found["x"]) == 6
    with pytest.warns(UserWarning, match="it is read once"):
        assert sum(map(len, iterate_events(files, columns=["x"], chunk_size=2))) == 6


def test_different_files_and_trees_are_no_doubles(folder, tmp_path):
    with uproot.recreate(tmp_path / "two.root") as file:
        for name in ("one", "two"):
            file.mktree(name, {"x": "float64"}).extend({"x": np.arange(2.0)})
    path = str(tmp_path / "two.root")
    assert len(read_events([f"{path}:one", f"{path}:two"], columns=["x"])) == 4
    for _ in range(2):  # two samples may share a file
        assert len(read_events([folder / "a.root", folder / "ab.root"], columns=["x"])) == 6


NUMBERS = np.arange(SIZE) * 7 + 3


@pytest.mark.parametrize(
    "dtype", ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_one_hash_for_one_number(dtype):
    np.testing.assert_array_equal(event_hash(NUMBERS.astype(dtype)), event_hash(NUMBERS))
    if dtype[0] in "if":
        np.testing.assert_array_equal(event_hash(-NUMBERS.astype(dtype)), event_hash(-NUMBERS))
    fractions = event_hash(NUMBERS + 0.5)
    assert len(np.unique(np.concatenate([fractions, event_hash(NUMBERS)]))) == 2 * SIZE


def test_variations_with_identifiers_of_another_type_stay_in_their_part(tmp_path):
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=SIZE), rng.permutation(10**6)[:SIZE] + 10**9
    write(tmp_path / "nominal.root", x=x, event=ids)
    write(tmp_path / "up.root", x=x + 1, event=ids.astype(float))
    write(tmp_path / "down.root", x=x - 1, event=ids.astype(np.uint64))
    read = {name: read_events(tmp_path / f"{name}.root", columns=["x"], dtype=np.float64)
            for name in ("nominal", "up", "down")}  # fmt: skip
    names = {name: read_identifiers(tmp_path / f"{name}.root", columns=["event"]) for name in read}
    sample = Sample(
        read["nominal"], (ShiftedEvents(up=read["up"], down=read["down"], name="s"),), name="a"
    )
    parts = split(
        sample,
        (0.5, 0.5),
        identifiers=names["nominal"],
        shifted_identifiers={"s": (names["up"], names["down"])},
    )
    for part in parts:
        np.testing.assert_allclose(part.variations[0].up.features, part.nominal.features + 1)
        np.testing.assert_allclose(part.variations[0].down.features, part.nominal.features - 1)


def test_identifiers_of_several_files_are_not_rounded(tmp_path):
    large = np.array([2**60 + 1, 2**60 + 3])
    write(tmp_path / "a.root", event=large)
    write(tmp_path / "b.root", event=large.astype(np.uint64) + np.uint64(1))
    found = read_identifiers(tmp_path / "*.root", columns=["event"])["event"]
    assert found.tolist() == [2**60 + 1, 2**60 + 3, 2**60 + 2, 2**60 + 4]
    write(tmp_path / "c.root", event=np.array([2**63 + 5], np.uint64))
    found = read_identifiers(tmp_path / "*.root", columns=["event"])["event"]
    assert int(found[-1]) == 2**63 + 5
    write(tmp_path / "d.root", event=np.array([-1]))
    with pytest.raises(InputError, match=r"identifier 'event' of all files: negative integers and"):
        read_identifiers(tmp_path / "*.root", columns=["event"])
    write(tmp_path / "e.root", event=np.array([7.0]))
    found = read_identifiers([tmp_path / "a.root", tmp_path / "e.root"], columns=["event"])
    assert found["event"].tolist() == [2**60 + 1, 2**60 + 3, 7]
    write(tmp_path / "f.root", event=np.array([7.5]))
    with pytest.raises(InputError, match=r"identifier 'event' is an integer above 2\*\*53"):
        read_identifiers([tmp_path / "a.root", tmp_path / "f.root"], columns=["event"])


def test_run_and_event_in_one_number(tmp_path):
    run, event = np.array([400_000, 400_001], np.int32), np.array([5, 999_999], np.uint32)
    write(tmp_path / "a.root", run=run, event=event)
    found = read_identifiers(tmp_path / "a.root", columns={"id": "run * 1000000 + event"})
    assert found["id"].tolist() == [400_000_000_005, 400_001_999_999]


def test_identifiers_that_were_rounded_or_are_missing_are_refused(tmp_path):
    events = from_arrays(np.ones((3, 1)))
    for numbers, message in (
        (np.array([1.0, 2.0, 2.0**60]), r"\(float64\) above 9007199254740992, where neighbouring"),
        (np.array([1, 2, 2**25], np.float32), r"\(float32\) above 16777216"),
        (np.array([1.0, np.nan, 2.0]), "missing or not finite in 1 of 3 events, first in event 1"),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), "masked"),
    ):
        with pytest.raises(InputError, match=message):
            split(events, (0.5, 0.5), identifiers=numbers)
        with pytest.raises(InputError, match=f"identifier 'event'.*{message}"):
            event_hash({"event": numbers})
    pq.write_table(pa.table({"id": [1, None, 3]}), tmp_path / "a.parquet")
    found = read_identifiers(tmp_path / "a.parquet", columns=["id"])
    with pytest.raises(InputError, match="identifier 'id' is missing or not finite in 1 of 3"):
        event_hash(found)


def test_hash_of_features_is_frozen():
    # without identifiers the features are hashed; another value would reshuffle every analysis
    events = from_arrays(np.arange(8.0)[:, None])
    first, _ = split(events, (0.5, 0.5))
    assert first.features.ravel().tolist() == FROZEN


FROZEN = [3.0, 6.0]


def test_resolution_of_single_precision(tmp_path):
    rng = np.random.default_rng(2)
    time = 1.7e9 + rng.normal(size=1000)
    match = r"column 't' 't' loses its resolution in float32.*\(t\) - 1\.7e\+09|\(t\) - 1700000000"
    with pytest.warns(UserWarning, match=match):
        from_arrays({"t": time})
    with pytest.warns(UserWarning, match="particles column 'p'"):
        from_arrays({"x": time * 0, "p": time[:, None]}, columns=["x"], particles=["p"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = from_arrays({"t": time}, columns=["t - 1700000000"])
        assert abs(float(moved.features.std()) - 1) < 0.1
        kept = from_arrays({"t": time}, dtype=np.float64)
        np.testing.assert_array_equal(kept["t"], time)
        from_arrays({"m": 1e5 * rng.uniform(size=1000), "constant": np.full(1000, 1.7e9 + 0.3),
                     "run": rng.integers(300_000, 300_010, 1000)})  # fmt: skip
    with jax.enable_x64(False), pytest.warns(UserWarning, match="resolution in float32"):  # noqa: FBT003
        from_arrays({"t": time}, dtype=np.float64)


def test_weights_beyond_the_range():
    x = {"x": np.arange(4.0)}
    with pytest.raises(InputError, match="weight 'weights' is not finite"):
        from_arrays(x, np.array([1, 2, np.inf, 4], np.float32))
    for large in (1e308, 1e160):  # the sum overflows, or the sum of squares
        with pytest.raises(InputError, match=r"weight 'weights' .* as large as 1e\+\d+: "):
            from_arrays(x, np.full(4, large))
    assert from_arrays(x, np.full(4, 1e30)).total() == pytest.approx(4e30)
    with (
        jax.enable_x64(False),  # noqa: FBT003
        pytest.raises(InputError, match="the sum of weights, or of their squares, exceeds 3e"),
    ):
        from_arrays(x, np.full(4, 1e25))
    with pytest.raises(InputError, match=r"'x' .* not finite \(inf\)"):
        from_arrays({"x": np.array([1e39, 1.0])})


def test_names_and_types_of_events():
    ones, two = jnp.ones(2), jnp.ones((2, 2))
    with pytest.raises(InputError, match=r"'columns' names \['a'\] more than once"):
        Events(two, ones, columns=("a", "a"))
    with pytest.raises(InputError, match="'particle_columns' names"):
        Events(two, ones, jnp.ones((2, 3, 2)), particle_columns=("p", "p"))
    with pytest.raises(InputError, match="3 column names for 2 features"):
        Events(two, ones, columns=("a", "b", "c"))
    with pytest.raises(InputError, match=r"features are complex \(complex"):
        Events(two.astype(complex), ones)
    with pytest.raises(InputError, match="weights are complex"):
        Events(two, ones.astype(complex))
    with pytest.raises(InputError, match="does not hold numbers"):
        from_arrays({"a": [1j, 2]})
    with pytest.raises(InputError, match=r"names \['a'\] more than once"):
        from_arrays(np.ones((2, 2)), columns=["a", "a"])


def test_a_column_called_weights_stays_itself():
    events = from_arrays({"weights": [1.0, 2.0]}, [5.0, 6.0])
    assert events["weights"].tolist() == [1.0, 2.0]
    assert events.weights.tolist() == [5.0, 6.0]


def test_parquet_names_with_dots(tmp_path):
    table = pa.table({"a.b": [1.0, 2.0], "a": [{"b": 7.0}, {"b": 8.0}], "": [3.0, 4.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    events = read_events(tmp_path / "a.parquet", columns=["a.b"])
    assert events["a.b"].tolist() == [1.0, 2.0]
