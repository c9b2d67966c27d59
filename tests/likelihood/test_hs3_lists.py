"""HS3 with a list of constraints, one distribution a bin: what current ROOT writes."""

from __future__ import annotations

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ModelError
from difana.infer import fit
from difana.likelihood import from_hs3, from_workspace, to_hs3

VALUES, WIDTHS = np.array([100.0, 80.0, 60.0]), np.array([5.0, 5.0, 6.0])


def workspace(**settings):
    return {
        "channels": [
            {
                "name": "A",
                "samples": [
                    {
                        "name": "bkg",
                        "data": VALUES.tolist(),
                        "modifiers": [{"name": "u", "type": "shapesys", "data": WIDTHS.tolist()}],
                    },
                    {
                        "name": "sig",
                        "data": [10.0, 20.0, 5.0],
                        "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                    },
                ],
            }
        ],
        "observations": [{"name": "A", "data": [112.0, 95.0, 70.0]}],
        "measurements": [
            {
                "name": "m",
                "config": {"poi": "mu", "parameters": [{"name": "u", **settings}] * bool(settings)},
            }
        ],
        "version": "1.0.0",
    }


def listed(change=None):
    """Return HS3 with Poisson constraints in a list; ``change`` edits file and modifier."""
    spec = copy.deepcopy(to_hs3(*from_workspace(workspace()), name="m"))
    modifier = next(m for m in spec["distributions"][0]["samples"][0]["modifiers"])
    assert modifier.pop("constraint") == "Poisson"
    names = [f"gamma_u_bin_{i}" for i in range(3)]
    assert modifier["parameters"] == names
    modifier["constraints"] = [f"{name}_constraint" for name in names]
    spec["distributions"] += [
        {"name": f"{name}_constraint", "type": "poisson_dist", "x": x, "mean": f"{name}_poisMean"}
        for name, x in zip(names, ((VALUES / WIDTHS) ** 2).tolist(), strict=True)
    ]
    if change is not None:
        change(spec, modifier)
    return spec


def names_of(spec):
    return {entry["name"]: entry for entry in spec["distributions"]}


def densities(model, data):
    """Return logpdf at three points, with parameters in the order of their names."""
    order = np.argsort(np.argsort(model.parameters))
    points = jax.random.uniform(jax.random.key(3), (3, len(order)), minval=0.5, maxval=1.5)
    return jnp.array([model.logpdf(point[order], data) for point in points])


def test_poisson_constraints():
    expected = from_workspace(workspace())
    found = from_hs3(listed())
    np.testing.assert_allclose(densities(*found), densities(*expected), rtol=1e-12)
    best, other = fit(*found), fit(*expected)
    np.testing.assert_allclose(float(best["mu"]), float(other["mu"]), rtol=1e-8)


def test_other_auxiliary_counts_and_products_in_the_file():
    """A tau that the file spells out, counts that differ from it, and a global observable."""
    factors, counts = [300.0, 250.0, 80.0], [310.0, 240.0, 77.0]

    def change(spec, modifier):
        entries = names_of(spec)
        spec["functions"] = []
        for i, constraint in enumerate(modifier["constraints"]):
            parameter = modifier["parameters"][i]
            entries[constraint]["x"] = f"nom_{parameter}"
            spec["parameter_points"][0]["parameters"].append(
                {"name": f"nom_{parameter}", "value": counts[i], "const": True}
            )
            tau = factors[i] if i else str(factors[i])  # ROOT writes constants as text, too
            product = {"name": f"{parameter}_poisMean", "type": "product"}
            spec["functions"].append({**product, "factors": [parameter, tau]})

    expected = from_workspace(workspace(factors=factors, auxdata=counts))
    found = from_hs3(listed(change))
    np.testing.assert_allclose(densities(*found), densities(*expected), rtol=1e-12)


def test_gaussian_constraints_and_a_held_bin():
    def change(spec, modifier):
        entries = names_of(spec)
        for i, (constraint, parameter) in enumerate(
            zip(modifier["constraints"], modifier["parameters"], strict=True)
        ):
            entry = entries[constraint]
            del entry["mean"], entry["x"]
            x, mean = (1.02, parameter) if i else (parameter, 1.02)
            entry |= {"type": "gaussian_dist", "x": x, "mean": mean, "sigma": 0.04}
        modifier["constraints"][1] = None
        modifier["data"]["vals"][1] = 0.0

    model, data = from_hs3(listed(change))
    held = model.index("u[1]")
    assert [bool(x) for x in model.fixed] == [i == held for i in range(len(model.parameters))]
    s = model.structure
    assert not s.poisson.any()
    free = [i for i, p in enumerate(s.constrained) if p != held]
    np.testing.assert_allclose(model.centers[np.array(free)], 1.02)
    np.testing.assert_allclose(model.constraint_scales()[0][np.array(free)], 0.04)
    assert fit(model, data).ok


def test_a_constant_bin_needs_no_constraint():
    """Whatever its uncertainty; the same without "const" is a free bin among constrained ones."""

    def change(spec, modifier, **settings):
        points = spec["parameter_points"][0]["parameters"]
        next(p for p in points if p["name"] == modifier["parameters"][1]).update(settings)
        modifier["constraints"][1] = None

    model, data = from_hs3(listed(functools.partial(change, const=True)))
    found = fit(model, data)
    assert found.ok
    assert float(found["u[1]"]) == 1.0
    for settings in ({}, {"const": False}):
        with pytest.raises(ModelError, match=r"different kinds.*none .bin 1."):
            from_hs3(listed(functools.partial(change, **settings)))


def test_without_any_constraint():
    def change(spec, modifier):
        modifier["constraints"] = [None] * 3

    model, _ = from_hs3(listed(change))
    assert model.structure.constrained.size == 0


def wrong(path):
    def change(spec, modifier):
        path(spec, modifier, names_of(spec))

    return change


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (lambda s, m, d: m["constraints"].pop(), "must be a list of 3 names"),
        (lambda s, m, d: m.update(constraints="Poisson"), "must be a list of 3 names"),
        (lambda s, m, d: m.update(constraints={"a": 1}), "must be a list of 3 names"),
        (lambda s, m, d: m["constraints"].__setitem__(1, "gone"), "no distribution 'gone'.*bin 1"),
        (lambda s, m, d: m["constraints"].__setitem__(1, 7), "no distribution 7"),
        (lambda s, m, d: m["constraints"].__setitem__(1, None), "different kinds.*none .bin 1."),
        (lambda s, m, d: d["gamma_u_bin_1_constraint"].update(type="bukin_dist"), "bukin_dist"),
        (lambda s, m, d: d["gamma_u_bin_1_constraint"].update(x=-1.0), "cannot be negative"),
        (lambda s, m, d: d["gamma_u_bin_1_constraint"].update(x="nom"), "expected"),
        (lambda s, m, d: d["gamma_u_bin_1_constraint"].update(x=None), "expected"),
        (lambda s, m, d: d["gamma_u_bin_1_constraint"].update(mean="other"), "not made of"),
        (
            lambda s, m, d: d["gamma_u_bin_1_constraint"].update(
                type="gaussian_dist", x="gamma_u_bin_1", mean=1.0, sigma=0.0
            ),
            "must be positive",
        ),
        (
            lambda s, m, d: d["gamma_u_bin_1_constraint"].update(
                type="gaussian_dist", x="gamma_u_bin_1", mean=1.0, sigma=0.1
            ),
            "different kinds",
        ),
        (
            lambda s, m, d: s.update(functions=[{"name": "gamma_u_bin_1_poisMean"}]),
            "type None is not supported",
        ),
        (lambda s, m, d: s.update(functions=[7]), "expected an object"),
    ],
)
def test_refused(path, message):
    with pytest.raises(ModelError, match=message):
        from_hs3(listed(wrong(path)))
