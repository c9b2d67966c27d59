from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from difana._errors import InputError
from difana.data import (
    from_arrays,
    iterate_events,
    read_events,
    to_hdf5,
    to_parquet,
)

GOOD = np.arange(10.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    hole = np.where(GOOD == 7, np.nan, GOOD)
    jets = ak.Array([[1.0, 2.0], []] * 5)
    with uproot.recreate(folder / "events.root") as file:
        columns = {"jet_pt": jets, "jet_eta": jets[::-1], "met": GOOD, "hole": hole}
        types = {
            "jet_pt": "var * float64",
            "jet_eta": "var * float64",
            "met": "float64",
            "hole": "float64",
        }
        file.mktree("nominal", types).extend(columns)
        file.mktree("shifted", {"met": "float64"}).extend({"met": GOOD})
        file.mktree("empty", {"met": "float64"})
    return folder


def read(folder, **options):
    files = folder / "events.root"
    return read_events(**{"files": files, "tree": "nominal", "columns": ["met"]} | options)


CASES = {
    "missing branch": (
        {"columns": ["jet_ptt"]},
        r"no branch 'jet_ptt' in tree 'nominal' of '.*' \(used by column 'jet_ptt'\).*'jet_pt'",
    ),
    "missing branch in an expression": (
        {"columns": {"x": "sqrt(mett)"}},
        r"no branch 'mett'.*used by column 'x': 'sqrt\(mett\)'\). Did you mean 'met'",
    ),
    "missing weight": ({"weight": "wieght"}, r"no branch 'wieght'.*\(used by weight"),
    "missing tree": (
        {"tree": "nominl"},
        r"no tree 'nominl' in file '.*events.root'. Did you mean 'nominal'.*'shifted', 'empty'",
    ),
    "no tree named": ({"tree": None}, r"several trees, choose one: 'nominal', 'shifted', 'empty'"),
    "selection with a typo": ({"selection": "mett > 1"}, r"no branch 'mett'.*used by selection"),
    "selection with a syntax error": ({"selection": "met > (1"}, r"'met > \(1' has a syntax error"),
    "selection that is a number": ({"selection": "met"}, r"selection 'met' gives numbers"),
    "selection that is jagged": (
        {"selection": "jet_pt > 1"},
        r"selection 'jet_pt > 1' has a list of numbers an event",
    ),
    "zero selected events": (
        {"selection": "met > 100"},
        r"selection 'met > 100' keeps none of the 10 events read from tree 'nominal'",
    ),
    "not a number": (
        {"columns": ["hole"]},
        r"column 'hole' 'hole' is not finite \(nan\) in 1 of 10 events.*first at entry 7",
    ),
    "not a number behind a selection": (
        {"columns": ["hole"], "selection": "met > 3"},
        r"1 of 6 events.*first at entry 7",
    ),
    "infinite": (
        {"columns": {"x": "1 / (met - 2)"}},
        r"column 'x' '1 / \(met - 2\)' is not finite \(inf\).*first at entry 2",
    ),
    "too large for the type": ({"columns": {"x": "1e39 * met"}}, r"'x'.*not finite \(inf\)"),
    "weight not finite": ({"weight": "hole"}, r"weight 'hole' is not finite.*first at entry 7"),
    "jagged feature": (
        {"columns": ["jet_pt"]},
        r"column 'jet_pt' 'jet_pt' has a list of numbers.*2 in entry 0.*\[:, 0\].*'particles'",
    ),
    "index out of range": (
        {"columns": ["jet_pt[:, 0]"]},
        r"column .* of tree 'nominal'.*'jet_pt\[:, 0\]' cannot",
    ),
    "particles that are flat": (
        {"particles": ["met"]},
        r"particles column 'met'.*needs one list.*read it as one of 'columns'",
    ),
    "particles of different lengths": (
        {"particles": ["jet_pt", "jet_eta"]},
        r"'jet_eta' has 0 entries at entry 0 .* but 'jet_pt' has 2",
    ),
    "no particles": ({"max_particles": 3}, r"max_particles is given, but no 'particles'"),
    "max_particles": ({"particles": ["jet_pt"], "max_particles": 0}, r"must be at least 1, got 0"),
    "no columns": ({"columns": []}, r"no columns are asked for"),
    "columns as text": ({"columns": "met"}, r"must be a list or a mapping, got the text 'met'"),
    "repeated column": ({"columns": ["met", "met"]}, r"names \['met'\] more than once"),
    "unknown unit": ({"units": {"mett": "GeV"}}, r"unknown column 'mett'. Did you mean 'met'"),
    "number of units": ({"units": ["GeV", "GeV"]}, r"2 units for 1 columns"),
    "integer features": ({"dtype": np.int32}, r"floating-point numbers, got dtype int32"),
    "negative start": ({"entry_start": -1}, r"entry_start must not be negative"),
    "empty range": ({"entry_start": 5, "entry_stop": 5}, r"entry_stop \(5\) must be larger"),
    "start behind the end": ({"entry_start": 10}, r"there are 10 in all, entry_start is 10"),
    "empty tree": ({"tree": "empty"}, r"no entries to read: there are 0 in all"),
    "alias of itself": (
        {"columns": ["a"], "aliases": {"a": "b + 1", "b": "a"}},
        r"alias 'a' is defined by itself: a -> b",
    ),
    "alias with a typo": (
        {"columns": ["a"], "aliases": {"a": "mett"}},
        r"no branch 'mett'.*used by alias 'a'",
    ),
    "files: none": ({"files": []}, r"the list of files is empty"),
}


@pytest.mark.parametrize("case", CASES)
def test_message_names_the_culprit(folder, case):
    options, message = CASES[case]
    with pytest.raises(InputError, match=message):
        read(folder, **options)


def test_missing_files(folder):
    with pytest.raises(InputError, match=r"no file '.*event.root'. Did you mean 'events.root'"):
        read_events(folder / "event.root", columns=["met"])
    with pytest.raises(InputError, match=r"no file matches '.*evnt\*.root'"):
        read_events(folder / "evnt*.root", columns=["met"])
    with pytest.raises(InputError, match=r"There is no folder '.*nowhere'"):
        read_events(folder / "nowhere" / "a.root", columns=["met"])
    with pytest.raises(InputError, match="is a folder"):
        read_events(folder, columns=["met"])
    with pytest.raises(InputError, match=r"the suffix must be one of"):
        read_events(folder / "a.txt", columns=["met"])


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_truncated_root_file(folder, tmp_path, kept):
    whole = (folder / "events.root").read_bytes()
    path = tmp_path / "cut.root"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(
        InputError, match=r"file '.*cut.root' is (empty|truncated)|cannot read"
    ) as e:
        read_events(path, tree="nominal", columns=["met"])
    assert "cut.root" in str(e.value)


def test_damaged_and_foreign_files(folder, tmp_path):
    whole = (folder / "events.root").read_bytes()
    messages = []
    for start in range(0, len(whole), len(whole) // 20):
        hurt = whole[:start] + bytes(400) + whole[start + 400 :]
        (tmp_path / "hurt.root").write_bytes(hurt[: len(whole)])
        try:
            read_events(tmp_path / "hurt.root", tree="nominal", columns=["met", "sum(jet_pt)"])
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 2
    assert all("hurt.root" in message for message in messages)
    for name in ("a.root", "a.h5", "a.parquet"):
        (tmp_path / name).write_bytes(b"some text" * 100)
        with pytest.raises(InputError, match=rf"cannot read '.*{name}': it is truncated or no"):
            read_events(tmp_path / name, columns=["met"])
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=rf"{name}' is empty \(0 bytes\)"):
            read_events(tmp_path / name, columns=["met"])


def test_truncated_hdf5_and_parquet(tmp_path):
    events = from_arrays(np.ones((1000, 3)))
    for path in (
        to_hdf5(events, tmp_path / "cut.h5"),
        to_parquet(events, tmp_path / "cut.parquet"),
    ):
        whole = path.read_bytes()
        for kept in (0.3, 0.9):
            path.write_bytes(whole[: int(kept * len(whole))])
            with pytest.raises(InputError, match=f"cannot read '.*{path.name}'"):
                read_events(path, columns=["x0"])


def test_iteration_finds_the_same_errors(folder):
    path = folder / "events.root"
    with pytest.raises(InputError, match="keeps none of the 10 events"):
        list(iterate_events(path, tree="nominal", columns=["met"], selection="met < 0"))
    with pytest.raises(InputError, match="first at entry 7"):
        list(iterate_events(path, tree="nominal", columns=["hole"], chunk_size=3))
    with pytest.raises(InputError, match="chunk_size must be at least 1"):
        iterate_events(path, columns=["met"], chunk_size=0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (({"a": [1.0], "b": [1.0, 2.0]},), {}, "different lengths: 'a': 1, 'b': 2"),
        (([[1.0], [2.0, 3.0]],), {}, "features is ragged"),
        (([1.0, 2.0],), {}, r"must be \[events, features\], got 1 axes"),
        ((np.ones((2, 2)), [1.0]), {}, "different lengths"),
        ((np.ones((2, 2)), [1.0, np.inf]), {}, r"weight 'weights' is not finite \(inf\)"),
        ((np.ones((2, 2)),), {"columns": ["a"]}, "1 column names for 2 features"),
        (([[1.0], [np.nan]],), {"columns": ["a"]}, "column 'a' 'a' is not finite.*entry 1"),
        (({"a": ["x", "y"]},), {}, "column 'a' 'a' is no number"),
        (({"a": [None, object()]},), {}, "array 'a' does not hold numbers"),
        (({"a": 1.0},), {}, "array 'a' is a single number"),
        ((np.ones((0, 2)),), {}, "no entries to read"),
    ],
)
def test_arrays(arguments, options, message):
    with pytest.raises(InputError, match=message):
        from_arrays(*arguments, **options)
