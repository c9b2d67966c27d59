"""Asymmetric variations made symmetric: formulas, workspaces, channels."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ModelError
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    Parameter,
    Template,
    build_model,
    from_workspace,
    symmetric_factors,
    symmetric_templates,
    symmetrise,
)

NOMINAL, UP, DOWN = np.array([10.0, 10.0, 10.0]), np.array([13.0, 12.0, 9.0]), [9.0, 11.0, 5.0]
SHIFTS = {  # u = 3, 2, -1 and d = 1, -1, 5
    "average": [[2.0, 0.5, 2.0]],
    "conservative": [[3.0, 2.0, 5.0]],
    "one_sided_up": [[3.0, 2.0, -1.0]],
    "one_sided_down": [[1.0, -1.0, 5.0]],
    "linear": [[2.0, 0.5, 2.0], [1.0, 1.5, -3.0]],
    "quadratic": [[2.0, 0.5, 2.0], np.sqrt(3) * np.array([1.0, 1.5, -3.0])],
}


@pytest.mark.parametrize("method", sorted(SHIFTS))
def test_templates_follow_their_formula(method):
    found = symmetric_templates(NOMINAL, UP, DOWN, method=method)
    assert [v.suffix for v in found] == (
        ["SymAvg", "SymDiff"] if len(found) == 2 else [""]
    )  # fmt: skip
    for variation, shift in zip(found, SHIFTS[method], strict=True):
        np.testing.assert_allclose(variation.up, NOMINAL + shift, rtol=1e-14)
        np.testing.assert_allclose(variation.down, NOMINAL - shift, rtol=1e-14)
    # factors: the same in the logarithm
    pair = symmetric_factors(np.exp(3.0), np.exp(-1.0), method=method)
    for variation, shift in zip(pair, SHIFTS[method], strict=True):
        assert float(variation.up) == pytest.approx(np.exp(shift[0]))
        assert float(variation.up * variation.down) == pytest.approx(1.0)
    # what is symmetric stays
    for variation, shift in zip(
        symmetric_templates(NOMINAL, NOMINAL + 1, NOMINAL - 1, method=method), (1, 0), strict=False
    ):
        np.testing.assert_allclose(variation.up, NOMINAL + shift)


def test_linear_and_quadratic_have_the_promised_mean_square():
    """Of the dependence of one bin on a standard normal nuisance; u = 3, d = 1."""
    alpha = np.random.default_rng(2).normal(size=400_000)
    shifts = {
        "linear": np.where(alpha > 0, 3.0 * alpha, 1.0 * alpha),
        "quadratic": 2.0 * alpha + 1.0 * alpha**2,
    }
    for method, shift in shifts.items():
        found = symmetric_templates(10.0, 13.0, 9.0, method=method)
        total = sum((float(v.up) - 10.0) ** 2 for v in found)
        assert total == pytest.approx(np.mean(shift**2), rel=0.01)


def test_traced_templates():
    slope = jax.jit(
        jax.grad(lambda up: symmetric_templates(jnp.ones(2), up, 0.9 * jnp.ones(2))[0].down.sum())
    )(jnp.array([1.2, 1.1]))
    np.testing.assert_allclose(slope, -0.5)


@pytest.mark.parametrize("method", ["average", "linear"])
def test_workspaces(specs, method):
    spec = copy.deepcopy(specs["everything"])
    spec["measurements"][0]["config"]["parameters"].append({"name": "shape", "inits": [0.1]})
    before = copy.deepcopy(spec)
    found = symmetrise(spec, method=method, modifiers=["shape", "both"])
    assert spec == before
    model, _ = from_workspace(found)
    old, _ = from_workspace(spec)
    names = ["shape"] if method == "average" else ["shapeSymAvg", "shapeSymDiff"]
    assert [n for n in model.parameters if n.startswith("shape")] == names
    for name in names:
        assert float(model.init[model.index(name)]) == 0.1
    shape, rows = "shape", slice(*_rows(model, "SR", "ttbar"))
    base = {n: 0.0 for n in model.parameters if n.startswith(("shape", "both", "norm"))}
    up, down = (old.rows(old.pack({**_zeros(old), shape: x}))[rows] for x in (1.0, -1.0))
    half = 0.5 * (up - down)
    nominal = model.rows(model.pack(base))[rows]
    moved = model.rows(model.pack({**base, names[0]: 1.0}))[rows]
    np.testing.assert_allclose(moved, nominal + half, rtol=1e-12)
    # "norm" was not asked for
    i = [n for n, *_ in model.structure.sets].index("norm")
    assert model.structure.sets[i][3] == "normal"
    np.testing.assert_allclose(model.normsys_hi[:1], old.normsys_hi[:1])


def _zeros(model):
    return {n: 0.0 for n, _, _, kind in model.structure.sets if kind == "normal"}


def _rows(model, channel, sample):
    for c in model.structure.channels:
        for t in c.templates:
            if (c.name, t.name) == (channel, sample):
                return t.start, t.start + c.bins
    raise AssertionError


def test_channels_and_workspaces_agree():
    bkg = Template(
        NOMINAL, (HistoSys(UP, DOWN, "jes"), NormSys(1.2, 0.9, "norm")), name="background"
    )
    signal = Template(NOMINAL, (NormFactor("mu"),), name="signal")
    channel = Channel((bkg, signal), name="SR", parameters=(Parameter("jes", init=0.2),))
    model = build_model([symmetrise(channel, method="quadratic")])
    assert model.parameters == ("jesSymAvg", "jesSymDiff", "normSymAvg", "normSymDiff", "mu")
    assert model.init[:2].tolist() == [0.2, 0.2]
    params = model.pack({"jesSymDiff": -1.0, "jesSymAvg": 0.0})
    expected = NOMINAL - np.array(SHIFTS["quadratic"][1])
    np.testing.assert_allclose(model.rows(params)[:3], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: symmetric_templates([1.0], [1.0], [1.0], method="avrage"), "'average'"),
        (lambda s: symmetric_templates([1.0], [1.0, 2.0], [1.0]), "same bins"),
        (lambda s: symmetric_factors(1.0, -1.0), "must be positive"),
        (lambda s: symmetrise(s, modifiers="shap"), "Did you mean 'shape'"),
        (lambda s: symmetrise(s, method="x"), "no method 'x'"),
        (lambda s: symmetrise({"channels": []}), "workspace|channels|missing"),
        (
            lambda s: symmetrise(
                Channel((Template([1.0], (NormSys(1.1, 0.0, "n"),), name="b"),), name="SR")
            ),
            "normsys 'n': factors hi 1.1 and lo 0",
        ),
    ],
)
def test_wrong_input_names_the_culprit(specs, call, message):
    with pytest.raises(ModelError, match=message):
        call(specs["everything"])
