"""HS3: what is written is read back, by difana and by pyhs3."""

from __future__ import annotations

import copy
import json

import equinox as eqx
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
    StatError,
    Template,
    build_model,
    from_hs3,
    from_workspace,
    prune,
    to_hs3,
    to_workspace,
)
from difana.likelihood.modifiers import Correlation


@eqx.filter_jit
def evaluate(model, params, data):
    return model.expected(params), model.logpdf(params, data), model.fixed


def by_name(model, values):
    return {name: float(x) for name, x in zip(model.parameters, values, strict=True)}


def assert_same(model, data, again, again_data, *, seed=3):
    """Compare two models by parameter name at the starting point and a random one."""
    rng = np.random.default_rng(seed)
    move = by_name(model, rng.normal(0.0, 0.2, len(model.parameters)))
    move[model.structure.poi] = 0.7
    assert set(again.parameters) == set(model.parameters)
    np.testing.assert_array_equal(data[: model.bins], again_data[: model.bins])
    for scale in (0.0, 1.0):
        results = []
        for m, d in ((model, data), (again, again_data)):
            start = by_name(m, m.init)
            params = jnp.array([start[n] + scale * move[n] for n in m.parameters])
            results.append(evaluate(m, params, d))
        (expected, density, fixed), (other, other_density, other_fixed) = results
        np.testing.assert_allclose(expected[: model.bins], other[: model.bins], rtol=1e-12)
        np.testing.assert_allclose(density, other_density, rtol=1e-12)
        assert by_name(model, fixed) == by_name(again, other_fixed)
    for field in ("lower", "upper", "init"):
        assert by_name(model, getattr(model, field)) == by_name(again, getattr(again, field))


@pytest.mark.parametrize("name", ["everything", "settings", "shapesys_zero", "lumi"])
def test_round_trip(name, specs, tmp_path):
    spec = copy.deepcopy(specs[name])
    if name == "settings":
        spec["measurements"][0]["config"]["parameters"][0].pop("auxdata")
    model, data = from_workspace(spec)
    path = tmp_path / "hs3.json"
    path.write_text(json.dumps(to_hs3(model, data, name="meas"), allow_nan=False))
    again, again_data = from_hs3(path, analysis="meas")
    assert_same(model, data, again, again_data)
    assert again.structure.poi == "mu"
    # and on to pyhf
    workspace = to_workspace(again, again_data)
    third, third_data = from_workspace(workspace)
    assert_same(model, data, third, third_data)


def unusual():
    """A model with all that HS3 can say and pyhf cannot."""
    signal = Template([5.0, 7.0], (NormFactor("mu"), NormFactor("k")), name="signal")
    background = Template(
        [50.0, 40.0],
        (
            NormSys(1.2, 0.9, "norm"),
            HistoSys([55.0, 42.0], [44.0, 39.0], "shape"),
            StatError([4.0, 3.0], "stat"),
        ),
        name="background",
    )
    return build_model(
        [Channel((signal, background), name="SR")],
        parameters=[
            Parameter("k", constraint="gaussian", auxdata=1.1, sigma=0.2, init=1.1),
            Parameter("norm", auxdata=0.3, sigma=2.0),
            Parameter("stat", constraint="poisson"),
        ],
        interpolation={"normsys": "code1", "histosys": "code2"},
    )


def test_constraints_and_interpolation_that_pyhf_lacks():
    model = unusual()
    data = model.data([60.0, 41.0])
    spec = to_hs3(model, data)
    again, again_data = from_hs3(spec)
    assert again.structure.interpolation == ("code1", "code2")
    assert again.structure.poisson.tolist() == model.structure.poisson.tolist()
    assert_same(model, data, again, again_data)
    with pytest.raises(ModelError, match=r"'(k|stat)' has a (Gaussian|Poisson) constraint"):
        to_workspace(model, data)


ROOT_FILE = {  # as RooFit writes it: prefixes, no names of samples' modifiers, errors with data
    "metadata": {"hs3_version": "0.2", "packages": [{"name": "ROOT", "version": "6.32.02"}]},
    "distributions": [
        {
            "name": "model_SR",
            "type": "histfactory_dist",
            "axes": [{"name": "obs_x_SR", "min": 0, "max": 2, "nbins": 2}],
            "samples": [
                {
                    "name": "background",
                    "data": {"contents": [50.0, 40.0], "errors": [4.0, 3.0]},
                    "modifiers": [
                        {"type": "staterror", "name": "mcstat",
                         "parameters": ["gamma_stat_SR_bin_0", "gamma_stat_SR_bin_1"]},
                        {"type": "shapesys", "name": "fakes", "constraint": "Poisson",
                         "parameters": ["gamma_fakes_bin_0", "gamma_fakes_bin_1"],
                         "data": {"vals": [0.1, 0.0]}},
                        {"type": "normsys", "name": "JES", "parameter": "alpha_JES",
                         "constraint_name": "alpha_JESConstraint",
                         "interpolation": {"type": "mult", "in": "poly6", "out": "exp"},
                         "data": {"hi": 1.2, "lo": 0.9}},
                    ],
                },
                {
                    "name": "signal",
                    "data": {"contents": [5.0, 7.0]},
                    "modifiers": [{"type": "normfactor", "name": "mu", "parameter": "mu"}],
                },
            ],
        },
        {"name": "alpha_JESConstraint", "type": "gaussian_dist", "x": "alpha_JES",
         "mean": "nom_alpha_JES", "sigma": 1.0},
    ],
    "data": [
        {"name": f"{label}_SR", "type": "binned", "contents": contents,
         "axes": [{"name": "obs_x_SR", "min": 0, "max": 2, "nbins": 2}]}
        for label, contents in (("asimovData", [55.0, 47.0]), ("obsData", [60.0, 41.0]))
    ],
    "domains": [
        {"name": "nuisances", "type": "product_domain",
         "axes": [{"name": "alpha_JES", "min": -5.0, "max": 5.0}]},
        {"name": "interests", "type": "product_domain",
         "axes": [{"name": "mu", "min": -1.0, "max": 4.0}]},
    ],
    "likelihoods": [
        {"name": label, "distributions": ["model_SR"], "data": [f"{label}_SR"]}
        for label in ("asimovData", "obsData")
    ],
    "analyses": [
        {"name": label, "likelihood": label, "domains": ["nuisances", "interests"],
         "parameters_of_interest": ["mu"]}
        for label in ("asimovData", "obsData")
    ],
    "parameter_points": [
        {"name": "default_values", "parameters": [
            {"name": "mu", "value": 1.5}, {"name": "nom_alpha_JES", "value": 0.0, "const": True},
            {"name": "gamma_stat_SR_bin_1", "value": 1.0, "const": True},
        ]},
    ],
}  # fmt: skip


def test_a_file_as_root_writes_it():
    with pytest.raises(ModelError, match=r"2 analyses, \['asimovData', 'obsData'\]: name one"):
        from_hs3(ROOT_FILE)
    model, data = from_hs3(ROOT_FILE, analysis="obsData")
    assert set(model.parameters) == {
        "mcstat[0]", "mcstat[1]", "fakes[0]", "fakes[1]", "alpha_JES", "mu",
    }  # fmt: skip
    assert data[:2].tolist() == [60.0, 41.0]
    assert (model.init[model.index("mu")], model.lower[model.index("mu")]) == (1.5, -1.0)
    widths = dict(
        zip(
            [model.parameters[p] for p in model.structure.constrained],
            model.constraint_scales()[0].tolist(),
            strict=True,
        )
    )
    assert widths["mcstat[0]"] == pytest.approx(4 / 50)
    assert widths["fakes[0]"] == pytest.approx(0.1)
    assert model.structure.poisson.sum() == 4  # staterror too, by default
    fixed = by_name(model, model.fixed)
    assert (fixed["mcstat[1]"], fixed["fakes[1]"], fixed["mcstat[0]"]) == (1, 1, 0)
    threshold = copy.deepcopy(ROOT_FILE)
    threshold["distributions"][0]["staterror"] = {"relThreshold": 0.078, "constraint_type": "Gauss"}
    model, _ = from_hs3(threshold, analysis="obsData")
    assert model.structure.poisson.sum() == 2
    assert by_name(model, model.fixed)["mcstat[0]"] == 0


def change(path, value):
    spec = copy.deepcopy(ROOT_FILE)
    spec["analyses"] = spec["analyses"][1:]
    target = spec
    for key in path[:-1]:
        target = target[key]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return spec


SAMPLE = ("distributions", 0, "samples", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("metadata",), KeyError, "the key 'metadata' is missing"),
        (("likelihoods",), [], "analysis 'obsData': no likelihood 'obsData'"),
        (("distributions", 0, "type"), "poisson_dist", "only histfactory_dist"),
        (("distributions", 0, "axes"), [{"edges": [0, 2, 1]}], "edges must increase"),
        ((*SAMPLE, "data", "contents"), [1.0], "1 numbers where 2 are needed"),
        ((*SAMPLE, "data", "contents"), [1.0, 1e308], "not finite or beyond"),
        ((*SAMPLE, "data", "errors"), KeyError, "'errors' is missing"),
        ((*SAMPLE, "modifiers", 1, "parameters"), ["gamma_stat_SR_bin_0", "x"], "overlap"),
        ((*SAMPLE, "modifiers", 2, "type"), "custom", "type 'custom' are not supported"),
        ((*SAMPLE, "modifiers", 2, "interpolation"), "cubic", "'cubic' of a normsys"),
        ((*SAMPLE, "modifiers", 2, "interpolation"), [1], "of a normsys is not supported"),
        ((*SAMPLE, "modifiers", 2, "data", "hi"), "1.2", "expected int or float, not str"),
        ((*SAMPLE, "modifiers", 2, "data", "hi"), -1.2, "a factor is negative"),
        ((*SAMPLE, "modifiers", 2, "constraint_name"), "gone", "no distribution 'gone'"),
        ((*SAMPLE, "modifiers", 1, "constraint"), "Poison", "Did you mean 'Poisson'"),
        (("data", 1, "type"), "unbinned", "'unbinned' is not supported"),
        (("data", 1, "contents"), [1.0], "1 numbers where 2"),
        (("analyses", 0, "parameters_of_interest"), ["mu", "nu"], "several parameters of interest"),
        (("analyses", 0, "domains"), ["gone"], "domain 'gone': there is none"),
        (("analyses", 0, "init"), "gone", "parameter point 'gone': there is none"),
        (("distributions", 1, "type"), "poisson_dist", "type 'poisson_dist' is not supported"),
        (("distributions", 0, "samples"), 5, "expected list, not int"),
    ],
)
def test_broken_files(path, value, message):
    with pytest.raises(ModelError, match=message):
        from_hs3(change(path, value))


def places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        yield (key,)
        if isinstance(child, dict | list):
            yield from ((key, *rest) for rest in places(child))


def test_values_of_another_kind_are_one_error():
    """Every value of the file once replaced by a mapping, a list, a number and nothing."""
    for path in places(change(("metadata",), ROOT_FILE["metadata"])):
        for value in ({"a": {}}, [[1.0]], 7, None):
            try:
                model, _ = from_hs3(change(path, value))
            except ModelError:
                continue
            assert model.bins > 0  # the value did not matter


def test_what_is_not_written(specs):
    model, data = from_workspace(specs["settings"])
    both = Correlation(("norm", "shape"), [[1.0, 0.5], [0.5, 1.0]])
    template = unusual()
    correlated = build_model(
        [
            Channel(
                (Template([5.0], (NormFactor("mu"), NormSys(1.1, 0.9, "norm"),
                                  NormSys(1.1, 0.9, "shape")), name="s"),), name="SR")
        ],
        correlations=[both],
    )  # fmt: skip
    with pytest.raises(ModelError, match="correlated constraints"):
        to_hs3(correlated, correlated.data([5.0]))
    with pytest.raises(ModelError, match="expected 'relative' or 'absolute'"):
        to_hs3(model, data, shapesys="both")
    broken = eqx.tree_at(lambda m: m.nominal, template, jnp.full(4, jnp.nan))
    with pytest.raises(ModelError, match="not finite"):
        to_hs3(broken, broken.data([1.0, 2.0]))


def test_pyhs3_computes_the_same(specs):
    pyhs3 = pytest.importorskip("pyhs3", reason="pyhs3 is not installed")
    spec = copy.deepcopy(specs["everything"])
    # pyhs3 0.4 refuses bins without uncertainty, and cannot evaluate a staterror
    spec = prune(spec, modifier_types=["staterror"])
    spec["channels"][0]["samples"][2]["modifiers"][0]["data"] = [3.0, 1.0, 2.0]
    spec["channels"][0]["samples"][2]["data"] = [9.0, 2.0, 5.0]
    model, data = from_workspace(spec)
    written = to_hs3(model, data, name="meas", shapesys="absolute")
    assert_same(model, data, *from_hs3(written, shapesys="absolute"))
    theirs = pyhs3.Workspace(**written).model("meas", progress=False)
    graph = pyhs3.jaxify(theirs.log_prob)
    rng = np.random.default_rng(5)
    flat = [n["name"] for n in written["parameter_points"][0]["parameters"]]
    for _ in range(3):
        params = np.asarray(model.init) + rng.normal(0, 0.1, len(model.parameters))
        params = np.where(model.fixed, model.init, params)
        values = {name: float(x) for name, x in zip(flat, params, strict=True)}
        free = {name: values[name] for name in theirs.free_params}
        own = float(model.logpdf(jnp.asarray(params), data))
        (found,) = np.atleast_1d(np.asarray(graph(**theirs.data, **free)).squeeze())
        assert found == pytest.approx(own, rel=1e-8)  # pyhs3 keeps some constants in 32 bits


def test_masks_and_full_statistics(specs):
    """The same options as for a workspace of pyhf give the same model."""
    model, data = from_workspace(specs["everything"])
    written = to_hs3(model, data)
    name = model.structure.channels[0].name
    for options in ({"masked": [name]}, {"barlow_beeston": "full-gaussian"}):
        theirs, theirs_data = from_workspace(specs["everything"], **options)
        ours, ours_data = from_hs3(written, **options)
        assert_same(theirs, theirs_data, ours, ours_data)
        assert ours.structure.masked_channels == theirs.structure.masked_channels
        assert ours.parameters != model.parameters or "masked" in options
    with pytest.raises(ModelError, match="no channel 'x' to mask"):
        from_hs3(written, masked=["x"])


def test_other_auxiliary_data_are_written_or_refused():
    """A datum that a fit has moved is the centre of the constraint when it is read back."""
    norm = NormSys(1.1, 0.9, "norm")
    samples = Template([5.0], (NormFactor("mu"),), name="s"), Template([9.0], (norm,), name="b")
    model = build_model([Channel(samples, name="SR")])
    data = model.data([13.0]).at[1].set(0.4)
    for again, other in (
        from_hs3(to_hs3(model, data)),
        from_workspace(to_workspace(model, data)),
    ):
        np.testing.assert_allclose(other, data)
        np.testing.assert_allclose(again.auxiliary(), [0.4])
    assert to_hs3(model, data[:1]) == to_hs3(model, model.data([13.0]))
    stat = Template([9.0], (StatError([3.0], "stat"),), name="b")
    model = build_model([Channel((samples[0], stat), name="SR")])
    data = model.data([13.0])
    data = data.at[1].multiply(1.25)
    again, other = from_workspace(to_workspace(model, data))
    np.testing.assert_allclose(other, data)
    with pytest.raises(ModelError, match="'stat' has other auxiliary data than its nominal"):
        to_hs3(model, data)
    with pytest.raises(ModelError, match="2 auxiliary data, where the model has 1"):
        to_hs3(model, jnp.append(data, 1.0))
