"""What an expression may not do: take all memory, all time, or mean something else."""

from __future__ import annotations

import time
import tracemalloc

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest
import uproot

from difana._errors import InputError
from difana.data import Expression, from_arrays, functions, read_events, transformation

X = np.array([1.0, 2.0, -3.0])

HOSTILE = {
    "long sum": "+".join(["x"] * 500),
    "long sum of one name": "x" + "+x" * 4990,
    "long text": "x" * 20_000,
    "brackets": "(" * 3000 + "x" + ")" * 3000,
    "signs": "-" * 9000 + "x",
    "nots": "not " * 2400 + "x",
    "calls": "abs(" * 150 + "x" + ")" * 150,
    "indices": "x" + "[:, 0]" * 500,
    "attributes": "x" + ".a" * 4900,
    "powers": "x" + "**x" * 3000,
    "ifs": "x if x else " * 800 + "x",
    "comparisons": "x" + "<x" * 4900,
    "arguments": "min(" + ",".join(["x+1"] * 2400) + ")",
    "text times number": "'a' * 9999999999",
    "number times text": "x == 9999999999 * 'a'",
    "text": "'a'",
    "text in a function": "max('a', x)",
    "power of powers": "9**9**9**9",
    "digits": "9" * 5000,
    "null byte": "x\0",
    "bytes": "x == b'a'",
    "imaginary": "x * 1j",
    "ellipsis": "x[...]",
    "star": "min(*x)",
    "keyword": "clip(x, low=1, high=2)",
    "comment hides a condition": "x > 0 # and\n x > 1",
    "glued": "1if x else 2",
    "await": "await x",
    "dictionary": "{x: x}",
    "unpacked": "(x, x)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_in_no_time(name):
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(InputError) as error:
        Expression(HOSTILE[name]).evaluate({"x": X})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(str(error.value)) < 1500
    assert peak < 50e6
    assert time.process_time() - start < 5


def test_long_but_harmless_texts():
    assert Expression("+".join(["x"] * 90)).evaluate({"x": X}).tolist() == (90 * X).tolist()
    brackets = "+".join("(" + "+".join(["x"] * 10) + ")" for _ in range(40))
    np.testing.assert_allclose(Expression(brackets).evaluate({"x": X}), 400 * X)
    conditions = " and ".join(["x > -9"] * 200)
    assert Expression(conditions).evaluate({"x": X}).all()


def test_large_index_takes_no_memory():
    jets = ak.Array([[1.0, 2.0], [], [3.0]])
    for index in (1, 10**9, 10**15):
        found = Expression(f"at(x, {index}, -1)").evaluate({"x": jets}, ak)
        assert found.tolist() == ([2.0, -1, -1] if index == 1 else [-1] * 3)


@pytest.mark.parametrize("index", [":, ::0", ":, 99999999999999999999", ":, :9223372036854775807"])
def test_slices_that_never_end(index):
    for xp, x in ((ak, ak.Array([[1.0, 2.0], [3.0]])), (np, np.ones((2, 3)))):
        with pytest.raises(InputError, match=r"step of a slice is zero|whole number or a slice"):
            Expression(f"x[{index}]").evaluate({"x": x}, xp)


SIGNATURES = {
    "sqrt(x, x)": r"sqrt\(x\) takes 1 argument, not 2",
    "hypot(x, x, x)": r"hypot\(x, y\) takes 2 arguments, not 3",
    "hypot(x)": r"hypot\(x, y\) takes 2 arguments, not 1",
    "atan(x, x)": r"atan\(x\) takes 1 argument, not 2",
    "atan2(x, x, x)": r"atan2\(y, x\) takes 2",
    "where(x > 0, x)": r"where\(condition, x, y\) takes 3 arguments, not 2",
    "clip(x, 1)": r"clip\(x, low, high\) takes 3",
    "at(x, 0)": r"at\(x, index, default\) takes 3",
    "fill(x)": r"fill\(x, value\) takes 2",
    "sum(x, x)": r"sum\(x\) takes 1",
    "min()": r"min\(x, \.\.\.\) takes at least 1 argument, not 0",
    "maximum(x)": r"maximum\(x, y, \.\.\.\) takes at least 2 arguments, not 1",
}


@pytest.mark.parametrize("text", SIGNATURES)
def test_number_of_arguments(text):
    with pytest.raises(InputError, match=SIGNATURES[text]):
        Expression(text)


@pytest.mark.parametrize("name", functions())
def test_no_function_writes_into_its_arguments(name):
    # further arguments of a ufunc of numpy are the arrays to write into
    columns = {name: np.arange(3.0) for name in "abcde"}
    for number in range(1, 6):
        try:
            Expression(f"{name}({', '.join('abcde'[:number])})").evaluate(columns)
        except InputError:
            continue
    assert all(column.tolist() == [0.0, 1.0, 2.0] for column in columns.values())


@pytest.mark.parametrize("xp", [np, ak, jnp])
def test_minimum_of_many(xp):
    a, b, c = np.array([3.0, 5.0]), np.array([4.0, 1.0]), np.array([0.0, 9.0])
    columns = {k: xp.asarray(v) if xp is not ak else ak.Array(v) for k, v in
               {"a": a, "b": b, "c": c}.items()}  # fmt: skip
    for name in ("min", "minimum"):
        found = Expression(f"{name}(a, b, c)").evaluate(columns, xp)
        assert np.asarray(found).tolist() == [0.0, 1.0]
    for name in ("max", "maximum"):
        found = Expression(f"{name}(a, b, c)").evaluate(columns, xp)
        assert np.asarray(found).tolist() == [4.0, 9.0]
    assert np.asarray(columns["c"]).tolist() == [0.0, 9.0]


def test_three_points_of_a_file(tmp_path):
    columns = {"a": np.array([3.0]), "b": np.array([4.0]), "c": np.array([0.5])}
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", dict.fromkeys(columns, "float64")).extend(columns)
    events = read_events(tmp_path / "a.root", columns={"m": "minimum(a, b, c)", "c": "c"})
    assert events.features.tolist() == [[0.5, 0.5]]


NAMES = (
    "pi",
    "sum",
    "min",
    "class",
    "lambda",
    "True",
    "e",
    "µ",
    "ﬁt",
    "jet pt",
    "4l",
    "x&&y",
    "#n",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_branch_hides_constants_functions_and_words_of_python(name, tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {name: "float64"}).extend({name: np.array([9.0, 10.0])})
    events = read_events(
        tmp_path / "a.root", columns={"a": name, "b": f"2 * `{name}`"}, selection=f"`{name}` > 9"
    )
    assert events.features.tolist() == [[10.0, 20.0]]


def test_constants_where_nothing_hides_them():
    assert Expression("2 * pi").evaluate({}) == 2 * np.pi
    assert Expression("2 * pi").evaluate({"pi": X}).tolist() == (2 * X).tolist()
    assert from_arrays({"pi": [1.0], "sum": [3.0]}, columns=["pi * sum"])["pi * sum"] == 3.0
    aliased = from_arrays({"x": [1.0]}, columns=["pi"], aliases={"pi": "3 * x"})
    assert aliased["pi"] == 3.0
    scale = transformation("s", {"pi": "pi * (1 + alpha)"}, ["pi"])
    assert scale.function(jnp.array([[2.0]]), 0.5).tolist() == [[3.0]]


def test_texts_in_quotes_are_left_alone():
    columns = {"s": np.array(["a  b", "a&&b", "c`d`", "x # y"])}
    for i, text in enumerate(columns["s"].tolist()):
        found = Expression(f"s == '{text}'").evaluate(columns)
        assert found.tolist() == [j == i for j in range(4)]


def test_texts_are_only_compared_with_texts():
    columns = {"s": np.array(["a", "b"]), "x": np.array([1.0, 2.0])}
    for xp in (np, ak):
        scope = {k: ak.Array(v) for k, v in columns.items()} if xp is ak else columns
        for text in ("s + 1", "sqrt(s)", "max(s, x)", "x == 'a'", "s == x", "s < s", "-s"):
            with pytest.raises(InputError, match="text"):
                Expression(text).evaluate(scope, xp)


def test_masks_need_the_length_of_the_list():
    pt = ak.Array([[1.0, 2.0, 3.0], [4.0, 5.0]])
    phi = ak.Array([[1.0, -1.0], [1.0, 1.0]])
    longer = ak.Array([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    for index, other in (("phi > 0", phi), ("phi > 0", longer)):
        with pytest.raises(InputError, match=r"the index has \d entries in event \d, where the li"):
            Expression(f"sum(pt[{index}])").evaluate({"pt": pt, "phi": other}, ak)
    with pytest.raises(InputError, match="lists of different lengths meet in one event"):
        Expression("sum(pt * phi)").evaluate({"pt": pt, "phi": phi}, ak)
    found = Expression("sum(pt[phi > 0])").evaluate({"pt": pt, "phi": pt - 2}, ak)
    assert found.tolist() == [3.0, 9.0]


def test_positions_stay_inside_their_list():
    pt = ak.Array([[1.0, 2.0], [4.0]])
    columns = {"pt": pt, "good": ak.Array([[1, 0], [0]]), "none": ak.Array([[-1], [0]]),
               "one": np.array([1, 0]), "flag": np.array([True, False])}  # fmt: skip
    assert Expression("pt[good]").evaluate(columns, ak).tolist() == [[2.0, 1.0], [4.0]]
    with pytest.raises(InputError, match=r"position \[-1\] lies outside the list of event 0"):
        Expression("sum(pt[none])").evaluate(columns, ak)
    for text in ("pt[one]", "pt[flag]", "pt[:, one]", "one[flag]", "pt[pt]"):
        with pytest.raises(InputError, match="index"):
            Expression(text).evaluate(columns, ak)


@pytest.mark.parametrize("name", ["sum", "mean", "min", "max"])
def test_all_reductions_treat_not_a_number_alike(name):
    lists = ak.Array([[1.0, np.nan], [2.0, 4.0], [np.nan]])
    found = ak.to_numpy(Expression(f"{name}(x)").evaluate({"x": lists}, ak))
    assert np.isnan(found).tolist() == [True, False, True]
    flat = np.array([[1.0, np.nan], [2.0, 4.0]])
    assert np.isnan(Expression(f"{name}(x)").evaluate({"x": flat})).tolist() == [True, False]
    with pytest.raises(InputError, match=rf"'{name}\(x\)' is not finite \(nan\) in 2 of 3"):
        from_arrays({"x": lists}, columns=[f"{name}(x)"])
    kept = from_arrays({"x": lists}, columns=[f"{name}(x[isfinite(x)])"], selection="num(x) == 2")
    assert kept.features[0, 0] == 1.0
    assert np.isnan(Expression("sort(x)").evaluate({"x": lists}, ak)[0]).tolist() == [True, True]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_numbers_of_events_meet_lists_event_by_event(size):
    lists, x = np.arange(3.0 * size).reshape(3, size), np.array([1.0, 10.0, 100.0])
    expected = lists * x[:, None]
    assert Expression("lists * x").evaluate({"lists": lists, "x": x}).tolist() == expected.tolist()
    fixed = ak.from_numpy(lists, regulararray=True)
    for text, value in {
        "lists * x": expected,
        "where(x > 1, lists, x)": np.where(x[:, None] > 1, lists, x[:, None]),
        "min(x, lists)": np.minimum(lists, x[:, None]),
        "(lists > 1) and (x > 1)": (lists > 1) & (x[:, None] > 1),
    }.items():
        found = Expression(text).evaluate({"lists": fixed, "x": x}, ak)
        assert found.tolist() == value.tolist()
    found = Expression("sum(lists[lists > x / 4])").evaluate({"lists": fixed, "x": x}, ak)
    assert found.tolist() == np.where(lists > x[:, None] / 4, lists, 0).sum(axis=1).tolist()
    events = from_arrays({"c": lists, "x": x}, columns=["sum(c * x)", "c[:, 0]"], particles=["c"])
    np.testing.assert_array_equal(events.features[:, 0], expected.sum(axis=1))
