from __future__ import annotations

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import Expression, functions

X = np.array([1.0, 2.0, -3.0])
Y = np.array([4.0, 0.5, 2.0])
FLAGS = np.array([1, 4, 5], np.uint32)
JETS = ak.Array([[30.0, 20.0, 10.0], [50.0], []])

FLAT = {
    "x": X,
    "x + 2*y": X + 2 * Y,
    "-x / y": -X / Y,
    "x**2 % 3": X**2 % 3,
    "y // 1": Y // 1,
    "1 < y <= 2": (Y > 1) & (Y <= 2),
    "x > 0 and y > 1": (X > 0) & (Y > 1),
    "x > 0 && y > 1 || x < -2": ((X > 0) & (Y > 1)) | (X < -2),
    "not x > 0": X <= 0,
    "(x > 0) & ~(y > 1)": (X > 0) & ~(Y > 1),
    "(flags & 4) != 0": (FLAGS & 4) != 0,
    "sqrt(abs(x)) + exp(-y)": np.sqrt(np.abs(X)) + np.exp(-Y),
    "hypot(x, y) * cos(arctan2(y, x))": X,
    "where(x > 0, x, y)": np.where(X > 0, X, Y),
    "x if x > 0 else y": np.where(X > 0, X, Y),
    "clip(x, -1, 1)": np.clip(X, -1, 1),
    "min(x, y, 1)": np.minimum(np.minimum(X, Y), 1),
    "max(x, y)": np.maximum(X, Y),
    "deltaphi(x, x + 2*pi)": np.zeros(3),
    "(x > 0) + (y > 1)": (X > 0).astype(int) + (Y > 1),
    "flags - 3": FLAGS.astype(int) - 3,
    "`odd/na.me` + 1": X + 1,
    "jet.pt": Y,
    "x\n  + y": X + Y,
}
COLUMNS = {"x": X, "y": Y, "flags": FLAGS, "odd/na.me": X, "jet.pt": Y}


@pytest.mark.parametrize("text", FLAT)
def test_flat_values_agree_between_libraries(text):
    expected = FLAT[text]
    np.testing.assert_allclose(Expression(text).evaluate(COLUMNS, np), expected, atol=1e-12)
    jagged = {name: ak.Array(column) for name, column in COLUMNS.items()}
    np.testing.assert_allclose(
        ak.to_numpy(Expression(text).evaluate(jagged, ak)), expected, atol=1e-12
    )
    traced = {name: jnp.asarray(column) for name, column in COLUMNS.items()}
    np.testing.assert_allclose(Expression(text).evaluate(traced, jnp), expected, atol=1e-6)


JAGGED = {
    "num(jets)": [3, 1, 0],
    "sum(jets)": [60.0, 50.0, 0.0],
    "count(jets > 15)": [2, 1, 0],
    "sum(jets > 15)": [2, 1, 0],
    "count(jets)": [3, 1, 0],
    "any(jets > 40)": [False, True, False],
    "all(jets > 15)": [False, True, True],
    "num(jets[jets > 15])": [2, 1, 0],
    "at(jets, 1, -1)": [20.0, -1.0, -1.0],
    "fill(max(jets), 0)": [30.0, 50.0, 0.0],
    "sum(jets * x)": [60.0, 100.0, 0.0],
    "num(jets) - 2": [1, -1, -2],
}


@pytest.mark.parametrize("text", JAGGED)
def test_jagged_values(text):
    found = Expression(text).evaluate({"jets": JETS, "x": X}, ak)
    assert ak.to_list(found) == JAGGED[text]


def test_index_of_particles():
    jets = JETS[:2]
    assert Expression("jets[:, 0]").evaluate({"jets": jets}, ak).tolist() == [30.0, 50.0]
    assert Expression("jets[:, -1]").evaluate({"jets": jets}, ak).tolist() == [10.0, 50.0]
    assert Expression("num(jets[:, :2])").evaluate({"jets": jets}, ak).tolist() == [2, 1]
    with pytest.raises(InputError, match=r"jets\[:, 1\].*at\(x, 0, default\)"):
        Expression("jets[:, 1]").evaluate({"jets": jets}, ak)


def test_names_in_order_of_use():
    assert Expression("b + a*sqrt(b) > `c d` * pi").names == ("b", "a", "c d")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x >", "syntax error"),
        ("!x", "'!' is written 'not'"),
        ("  ", "empty"),
        ("squrt(x)", "no function 'squrt'. Did you mean 'sqrt'"),
        ("__import__('os')", "no function '__import__'"),
        ("x.__class__()", "no function"),
        ("(lambda: 1)()", "no function"),
        ("[x for x in y]", "not allowed"),
        ("x > 1 & y > 2", "bind tighter"),
        ("x & y > 2", "bind tighter"),
        ("x[0]", "would pick events"),
        ("x[1:]", "would pick events"),
        ("x in y", "not allowed"),
        ("sqrt(x, where=y)", "not allowed"),
        ("f'{x}'", "not allowed"),
        ("(x := 1)", "not allowed"),
    ],
)
def test_refused_texts_name_the_culprit(text, message):
    with pytest.raises(InputError) as error:
        Expression(text)
    assert message in str(error.value)


def test_unknown_name_names_the_nearest():
    with pytest.raises(InputError, match=r"no branch or column 'jet_ptt'. Did you mean 'jet_pt'"):
        Expression("jet_ptt > 1").evaluate({"jet_pt": X})


def test_reductions_never_run_over_events():
    for xp, x in ((np, X), (ak, ak.Array(X)), (jnp, jnp.asarray(X))):
        with pytest.raises(InputError, match=r"sum\(\) runs over the entries of one event"):
            Expression("x / sum(x)").evaluate({"x": x}, xp)


def test_large_power_is_harmless():
    with pytest.raises(InputError):
        Expression("9**9**9**9").evaluate({})


def test_dotted_builtins_stay_out_of_reach():
    # an attribute is only ever a branch name
    assert Expression("x.__class__").names == ("x.__class__",)
    with pytest.raises(InputError, match="no branch"):
        Expression("x.__class__").evaluate({"x": X})


def test_expressions_compare_by_text():
    assert Expression("x + 1") == Expression("x + 1")
    assert hash(Expression("x + 1")) == hash(Expression("x + 1"))
    assert "arctan2" in functions()
