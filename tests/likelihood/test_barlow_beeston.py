"""Full Barlow-Beeston: pyhf with a shapesys of every sample, and the published equations."""

from __future__ import annotations

import copy
import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from scipy.optimize import brentq

from difana._errors import ModelError
from difana.infer import hypotest
from difana.infer.parallel._many import best_fit
from difana.likelihood import (
    Channel,
    NormFactor,
    Parameter,
    StatError,
    Template,
    build_model,
    from_workspace,
    to_workspace,
)


def explicit(spec, kind):
    """Return the workspace with the factors of every sample written out."""
    spec = copy.deepcopy(spec)
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] == "staterror":
                    modifier |= {"type": kind, "name": f"{modifier['name']}_{sample['name']}"}
    return spec


@pytest.mark.parametrize(("method", "kind"), [("full", "shapesys"), ("full-gaussian", "staterror")])
@pytest.mark.parametrize("name", ["staterror_shared_by_samples", "everything"])
def test_workspaces_are_those_with_factors_of_every_sample(
    specs, reference, points, method, kind, name
):
    model, data = from_workspace(specs[name], barlow_beeston=method)
    ref = reference(explicit(specs[name], kind))
    single = [n for n, *_ in model.structure.sets if n.startswith("stat")]
    assert single
    assert set(ref.model.config.par_order) == {n for n, *_ in model.structure.sets}
    logpdf = eqx.filter_jit(lambda m, params, shifted: m.logpdf(params, shifted))
    for params, shifted in zip(*points(model, data, 3, 3), strict=True):
        params = jnp.where(model.fixed, 1.0, params)  # bins without uncertainty
        expected = ref.logpdf(model, params, shifted)
        assert float(logpdf(model, params, shifted)) == pytest.approx(expected, rel=1e-10)


def test_cls_is_that_of_pyhf(specs):
    spec = specs["staterror_shared_by_samples"]
    model, data = from_workspace(spec, barlow_beeston="full")
    workspace = pyhf.Workspace(explicit(spec, "shapesys"))
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-12))
    try:
        pdf = workspace.model()
        expected = pyhf.infer.hypotest(1.5, workspace.data(pdf), pdf, test_stat="qtilde")
    finally:
        pyhf.set_backend(*before)
    test = eqx.filter_jit(hypotest)
    found = test(model, data, mu=1.5)
    assert float(found.observed) == pytest.approx(float(expected), rel=1e-6)
    # it is another answer than that of the lite method
    assert abs(float(test(*from_workspace(spec), mu=1.5).observed) / float(expected) - 1) > 1e-4


def test_factors_solve_the_equations_of_barlow_and_beeston():
    """With t = 1 - n/lambda each factor is m / (m + t nu), m its simulated events."""
    yields, counts, n = np.array([6.0, 30.0, 4.0]), np.array([9.0, 16.0, 2.0]), 57.0
    templates = [
        Template([y], (StatError([y / np.sqrt(m)], "stat"), NormFactor(f"k{i}")), name=f"s{i}")
        for i, (y, m) in enumerate(zip(yields, counts, strict=True))
    ]
    model = build_model(
        [Channel(tuple(templates), name="SR")], poi="k0", barlow_beeston="full",
        parameters=[Parameter(f"k{i}", fixed=True) for i in range(3)],
    )  # fmt: skip
    best = best_fit(model, model.data([n]))

    def excess(t: float) -> float:
        return float(np.sum(yields * counts / (counts + t * yields)) - n / (1 - t))

    t = brentq(excess, -0.4, 0.9)
    expected = counts / (counts + t * yields)
    found = [float(best[f"stat_s{i}[0]"]) for i in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_settings_of_a_staterror_hold_for_each_sample(specs):
    spec = copy.deepcopy(specs["staterror_shared_by_samples"])
    spec["measurements"][0]["config"]["parameters"] = [
        {"name": "stat", "bounds": [[0.5, 2.0], [0.4, 3.0]], "fixed": [True, False]}
    ]
    model, data = from_workspace(spec, barlow_beeston="full")
    for name in ("stat_a", "stat_b"):
        i = model.index(f"{name}[0]")
        assert model.lower[i : i + 2].tolist() == [0.5, 0.4]
        assert bool(model.fixed[i])
    assert not bool(model.fixed[model.index("stat_b[1]")])
    free = dataclasses.replace(model, structure=dataclasses.replace(
        model.structure, fixed=np.zeros_like(model.structure.fixed)))  # fmt: skip
    written = to_workspace(free, data)
    again, _ = from_workspace(written)
    assert again.parameters == model.parameters


def test_wrong_input_names_the_culprit():
    sample = Template([5.0], (StatError([1.0], "stat"), NormFactor("stat_s")), name="s")
    channel = Channel((sample,), name="SR")
    with pytest.raises(ModelError, match="'stat_s', but a modifier has that name"):
        build_model([channel], poi=None, barlow_beeston="full")
    with pytest.raises(ModelError, match="lite, full, full-gaussian, not 'heavy'"):
        build_model([channel], poi=None, barlow_beeston="heavy")
