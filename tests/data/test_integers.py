"""Integers in expressions: exact in 64 bits, or an error; never wrapped around, never rounded."""

from __future__ import annotations

import operator

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest
import uproot

from difana._errors import InputError
from difana.data import Expression, read_events

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


def edges(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.array([info.min, info.min + 1, 1, 7, info.max - 1, info.max], dtype)


def evaluate(text: str, xp, **columns):
    if xp is ak:
        columns = {name: ak.Array(column) for name, column in columns.items()}
    return np.asarray(Expression(text).evaluate(columns, xp))


@pytest.mark.parametrize("xp", [np, ak])
@pytest.mark.parametrize("symbol", OPERATIONS)
def test_arithmetic_is_that_of_unlimited_integers_or_refused(symbol, xp):
    refused = 0
    for left in TYPES:
        for right in TYPES:
            a, b = (x.ravel() for x in np.meshgrid(edges(left), edges(right)))
            a, b = (a[b != 0], b[b != 0]) if symbol in "//%" else (a, b)
            exact = [OPERATIONS[symbol](int(x), int(y)) for x, y in zip(a, b, strict=True)]
            fits = min(exact) >= -(2**63) and max(exact) < 2**63
            if fits or (min(exact) >= 0 and max(exact) < 2**64):
                assert evaluate(f"a {symbol} b", xp, a=a, b=b).tolist() == exact
            else:
                refused += 1
                with pytest.raises(InputError, match=r"does not fit into 64 bits; write 1\.0 \* x"):
                    evaluate(f"a {symbol} b", xp, a=a, b=b)
            # one event at a time, more fits
            for x, y, value in zip(a[:4], b[:4], exact, strict=False):
                if -(2**63) <= value < 2**64:
                    assert evaluate(f"a {symbol} b", xp, a=x[None], b=y[None]).tolist() == [value]
    assert refused < 40


@pytest.mark.parametrize("xp", [np, ak])
def test_narrow_integers_do_not_wrap(xp):
    columns = {
        "x": np.array([100_000, 200_000, 50_000], np.int32),
        "n": np.array([100, -128, 127], np.int8),
        "run": np.array([300_000, 300_001, 300_002], np.int32),
        "event": np.array([1, 2, 2**40]),
    }
    expected = {
        "x * x": [10**10, 4 * 10**10, 25 * 10**8],
        "x**2": [10**10, 4 * 10**10, 25 * 10**8],
        "x * 100000": [10**10, 2 * 10**10, 5 * 10**9],
        "n * 2": [200, -256, 254],
        "-n": [-100, 128, -127],
        "abs(n)": [100, 128, 127],
        "run * 1000000 + event": [300_000_000_001, 300_001_000_002, 300_002_000_000 + 2**40],
        "sqrt(n * n)": [100.0, 128.0, 127.0],
        "min(x, n, 3)": [3, -128, 3],
    }
    for text, values in expected.items():
        assert evaluate(text, xp, **columns).tolist() == values
    # not the half precision that numpy gives for 8 bits
    np.testing.assert_allclose(evaluate("exp(n / 100)", xp, **columns), np.exp(columns["n"] / 100))
    np.testing.assert_allclose(
        evaluate("hypot(n, x)", xp, **columns), np.hypot(columns["n"], columns["x"].astype(float))
    )


@pytest.mark.parametrize("xp", [np, ak])
def test_division_by_zero_is_not_a_finite_number(xp):
    columns = {"x": np.array([7, 0, -7], np.int32), "zero": np.array([0, 0, 2], np.int16)}
    for text in ("x // 0", "x % 0", "x // zero", "x % zero", "x / zero", "1.5 // zero"):
        assert not np.isfinite(evaluate(text, xp, **columns)[:2]).any()
    assert evaluate("x // zero", xp, **columns)[2] == -4
    assert evaluate("x % zero", xp, **columns)[2] == 1
    with pytest.raises(InputError, match="divided by zero"):
        evaluate("x // y", xp, x=np.array([2**60 + 1, 1]), y=np.array([1, 0]))


@pytest.mark.parametrize("xp", [np, ak])
def test_comparisons_are_exact(xp):
    numbers = [-1, 0, 2**53, 2**53 + 1, 2**63 - 1]
    others = [-1.0, 0.5, 2.0**53, np.inf, np.nan]
    a, f = (x.ravel() for x in np.meshgrid(np.array(numbers), np.array(others)))
    u = np.array([2**64 - 1, 2**53 + 1, 0], np.uint64)
    for symbol, compared in {"<": operator.lt, "<=": operator.le, "==": operator.eq}.items():
        exact = [compared(int(x), float(y)) for x, y in zip(a, f, strict=True)]
        assert evaluate(f"a {symbol} f", xp, a=a, f=f).tolist() == exact
        exact = [compared(int(x), -1) for x in u]
        assert evaluate(f"u {symbol} b", xp, u=u, b=np.array([-1] * 3)).tolist() == exact
    assert evaluate("u == 18446744073709551615", xp, u=u).tolist() == [True, False, False]
    assert evaluate("x < 16777217", xp, x=np.array([16777216], np.float32)).tolist() == [True]


def test_powers():
    x = np.array([2, 3, 10], np.int16)
    assert evaluate("x**18", np, x=x).tolist() == [2**18, 3**18, 10**18]
    np.testing.assert_allclose(evaluate("x**-2", np, x=x), [0.25, 1 / 9, 0.01])
    with pytest.raises(InputError, match=r"'\*\*' on integers does not fit into 64 bits"):
        evaluate("x**20", np, x=x)
    np.testing.assert_allclose(evaluate("(1.0 * x)**20", np, x=x), x.astype(float) ** 20)
    assert np.isnan(Expression("(-8)**(1/3)").evaluate({}))


def test_sums_over_lists_do_not_wrap():
    lists = ak.values_astype(ak.Array([[100, 100], [], [127]]), np.int8)
    assert Expression("sum(x)").evaluate({"x": lists}, ak).tolist() == [200, 0, 127]
    large = ak.Array([[2**62, 2**62], [1]])
    with pytest.raises(InputError, match="a sum of integers does not fit into 64 bits"):
        Expression("sum(x)").evaluate({"x": large}, ak)


def test_where_keeps_large_integers():
    ids = np.array([2**63 + 1, 5], np.uint64)
    columns = {"c": np.array([True, False]), "u": ids, "i": np.array([1, 2**60 + 1])}
    assert evaluate("where(c, u, i)", np, **columns).tolist() == [2**63 + 1, 2**60 + 1]
    assert evaluate("i if c else u", ak, **columns).tolist() == [1, 5]
    with pytest.raises(InputError, match="negative integers and integers above"):
        evaluate("where(c, u, -1)", np, **columns)


def test_bits():
    columns = {"f": np.array([5, 6], np.uint8), "g": np.array([2**63 + 1, 3], np.uint64)}
    assert evaluate("(f & 4) != 0", np, **columns).tolist() == [True, True]
    assert evaluate("f ^ 1", ak, **columns).tolist() == [4, 7]
    assert evaluate("(~f & 2) != 0", np, **columns).tolist() == [True, False]
    assert evaluate("f & g", np, **columns).tolist() == [1, 2]
    with pytest.raises(InputError, match="combine conditions or integers"):
        evaluate("f & 1.5", np, **columns)


def test_jax_promotes_narrow_integers():
    x = jnp.array([100, -128], jnp.int8)
    assert Expression("x * 2").evaluate({"x": x}, jnp).tolist() == [200, -256]


def test_features_of_a_file(tmp_path):
    columns = {"x": np.array([50_000, 3], np.int32), "n": np.array([-128, 2], np.int8)}
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {name: array.dtype for name, array in columns.items()}).extend(columns)
    events = read_events(tmp_path / "a.root", columns=["x * x", "n * 2"])
    assert events.features.tolist() == [[25e8, -256], [9, 4]]
    with pytest.raises(InputError, match=r"'x % 0' is not finite"):
        read_events(tmp_path / "a.root", columns=["x % 0"])
