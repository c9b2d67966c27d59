"""Every refusal names the culprit."""

from __future__ import annotations

import copy
import json

import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ModelError
from difana.likelihood import (
    Channel,
    HistoSys,
    Lumi,
    NormFactor,
    NormSys,
    Parameter,
    ShapeFactor,
    ShapeSys,
    StatError,
    Template,
    build_model,
    from_workspace,
    to_workspace,
    with_yields,
)

MU = NormFactor("mu")


def one(*modifiers, values=(5.0, 6.0), **options):
    return build_model(
        [Channel((Template(values, (MU, *modifiers), name="s"),), name="SR")], **options
    )


def two(first, second, bins=(2, 2)):
    channels = [
        Channel((Template(np.ones(n), (MU, modifier), name="s"),), name=name)
        for name, n, modifier in zip(("A", "B"), bins, (first, second), strict=True)
    ]
    return build_model(channels)


WRONG = {
    "no channel": (lambda: build_model([]), "at least one channel"),
    "empty channel": (lambda: build_model([Channel((), name="SR")]), "channel 'SR' has no samples"),
    "channel twice": (
        lambda: build_model([Channel((Template([1.0], (MU,), name="s"),), name="SR")] * 2),
        "two channels are called 'SR'",
    ),
    "sample twice": (
        lambda: build_model([Channel((Template([1.0], (MU,), name="s"),) * 2, name="SR")]),
        "channel 'SR', sample 's' stands twice",
    ),
    "unequal bins": (
        lambda: build_model(
            [Channel((Template([1.0], (MU,), name="s"), Template([1.0, 2.0], name="b")), name="SR")]
        ),
        "channel 'SR', sample 'b' has 2 bins, 's' has 1",
    ),
    "scalar yields": (lambda: one(values=5.0), r"sample 's': yields must be a vector.*\(\)"),
    "no bins": (lambda: one(values=()), r"at least one bin, not \(0,\)"),
    "NaN yield": (
        lambda: one(values=(1.0, np.nan)),
        "sample 's': the yield of bin 1 is not finite",
    ),
    "infinite yield": (lambda: one(values=jnp.array([jnp.inf, 1.0])), "bin 0 is not finite"),
    "short histosys": (
        lambda: one(HistoSys([1.0], [1.0, 2.0], "h")),
        r"histosys 'h': 'hi' has shape \(1,\), not \(2,\)",
    ),
    "one-sided histosys": (
        lambda: one(HistoSys([1.0, 2.0], [], "h")),
        r"histosys 'h': 'lo' has shape \(0,\)",
    ),
    "short staterror": (lambda: one(StatError([1.0], "st")), r"staterror 'st'.*\(1,\)"),
    "short shapesys": (lambda: one(ShapeSys([1.0], "un")), r"shapesys 'un'.*\(1,\)"),
    "shapesys twice": (
        lambda: two(ShapeSys([1.0, 1.0], "un"), ShapeSys([1.0, 1.0], "un")),
        "channel 'B'.*shapesys 'un' is used twice",
    ),
    "staterror in two channels": (
        lambda: two(StatError([1.0, 1.0], "st"), StatError([1.0, 1.0], "st")),
        "staterror 'st' also stands in channel 'A'.*'staterror_B'",
    ),
    "name of two kinds": (
        lambda: two(NormSys(1.1, 0.9, "x"), NormFactor("x")),
        "'x' needs 1 free parameter.*stands for 1 normal",
    ),
    "name of two sizes": (
        lambda: two(ShapeFactor("x"), ShapeFactor("x"), bins=(2, 3)),
        "'x' needs 3 free.*stands for 2 free",
    ),
    "unknown poi": (lambda: one(poi="my"), "'my' steers no sample.*Did you mean 'mu'"),
    "lumi without width": (lambda: one(Lumi()), "lumi 'lumi' needs its value and width"),
    "setting twice": (
        lambda: one(parameters=[Parameter("mu"), Parameter("mu")]),
        "'mu' is configured twice",
    ),
    "setting of nothing": (
        lambda: one(NormSys(1.1, 0.9, "norm"), parameters=[Parameter("nrm")]),
        "no modifier is called 'nrm'. Did you mean 'norm'",
    ),
    "crossed bounds": (
        lambda: one(parameters=[Parameter("mu", bounds=((2.0, 1.0),))]),
        "parameter 'mu': lower bound",
    ),
    "too many starting values": (
        lambda: one(ShapeFactor("x"), parameters=[Parameter("x", init=[1.0, 2.0, 3.0])]),
        r"parameter 'x': \(3,\) values given for 2",
    ),
    "no poi": (lambda: one(poi=None).poi_index, "no parameter of interest"),
    "unknown parameter": (lambda: one().index("nu"), "no parameter 'nu'. Did you mean 'mu'"),
    "unknown parameter to pack": (lambda: one().pack({"muu": 1.0}), "no parameter 'muu'"),
    "unknown channel": (lambda: one().slice_of("SS"), "no channel 'SS'. Did you mean 'SR'"),
    "too few observed": (
        lambda: one().data([1.0]),
        r"observed yields have shape \(1,\), the model has 2 bins in channels \['SR'\]",
    ),
    "data without auxiliary": (
        lambda: (m := one(NormSys(1.1, 0.9, "n"))).logpdf(m.init, jnp.ones(2)),
        r"data have shape \(2,\), the model needs \(3,\).*model.data",
    ),
    "too much data": (
        lambda: (m := one()).nll(m.init, jnp.ones(4)),
        r"data have shape \(4,\), the model needs \(2,\)",
    ),
    "yields of nothing": (
        lambda: with_yields(one(), {("SR", "t"): [1.0, 2.0]}),
        r"no template \('SR', 't'\); there are \[\('SR', 's'\)\]",
    ),
    "short yields": (lambda: with_yields(one(), {("SR", "s"): [1.0]}), r"shape \(1,\), not \(2,\)"),
    "width that pyhf lacks": (
        lambda: to_workspace(
            m := one(NormSys(1.1, 0.9, "n"), parameters=[Parameter("n", sigma=2.0)]),
            m.data([1.0, 2.0]),
        ),
        "'n' is constrained with width 2",
    ),
    "NaN to a workspace": (
        lambda: to_workspace(
            m := with_yields(one(), {("SR", "s"): [1.0, np.nan]}), m.data([1.0, 2.0])
        ),
        "not finite",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_models(case):
    make, message = WRONG[case]
    with pytest.raises(ModelError, match=message):
        make()


def change(spec, path, value):
    spec = copy.deepcopy(spec)
    target = spec
    for key in path[:-1]:
        target = target[key]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return spec


CONFIG = ("measurements", 0, "config", "parameters")


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("shapesys", ("channels",), None, "not a valid pyhf workspace.*channels"),
        ("shapesys", ("observations", 0, "name"), "CR", "channel 'SR' has no observation"),
        ("shapesys", ("measurements",), [], "measurement"),
        ("shapesys", ("observations", 0, "data"), [1.0], "'SR'/data: 1 numbers where 2"),
        ("shapesys", CONFIG, [{"name": "unc", "sigmas": [9.0, 9.0]}], "shapesys does not use"),
        ("normsys", CONFIG, [{"name": "norm", "factors": [9.0]}], "does not use 'factors'"),
        ("staterror", CONFIG, [{"name": "stat", "sigmas": [1.0]}], "1 sigmas where 2 are needed"),
        ("lumi", CONFIG, [], "lumi needs value and width of the luminosity in the 'parameters'"),
        (
            "normsys",
            ("channels", 0, "samples", 1, "modifiers", 0, "type"),
            "normsis",
            "normsis",
        ),
    ],
)
def test_wrong_workspaces(name, path, value, message, specs):
    with pytest.raises(ModelError, match=message):
        from_workspace(change(specs[name], path, value))


def test_settings_of_a_staterror_in_two_channels(specs):
    spec = copy.deepcopy(specs["staterror"])
    spec["channels"].append(spec["channels"][0] | {"name": "CR"})
    spec["observations"].append({"name": "CR", "data": [1.0, 2.0]})
    assert from_workspace(spec)[0].bins == 4
    spec["measurements"][0]["config"]["parameters"] = [{"name": "stat", "fixed": True}]
    assert from_workspace(spec)[0].fixed.tolist() == [True, True, False, True, True]
    spec["measurements"][0]["config"]["parameters"] = [{"name": "stat", "inits": [1.0, 1.1]}]
    with pytest.raises(ModelError, match="'stat' of the measurement: 2 inits where 4 are needed"):
        from_workspace(spec)


def test_wrong_files(tmp_path, specs):
    with pytest.raises(ModelError, match=r"no workspace file '.*missing.json'"):
        from_workspace(tmp_path / "missing.json")
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(specs["normsys"])[:-5], encoding="utf-8")
    with pytest.raises(ModelError, match=r"broken.json' is not JSON"):
        from_workspace(str(path))
    path.write_bytes(b"\xfd\xfe\x00binary")
    with pytest.raises(ModelError, match=r"broken.json' is not JSON"):
        from_workspace(path)
    with pytest.raises(ModelError, match=r"no measurement 'mes'. Did you mean 'meas'"):
        from_workspace(specs["normsys"], measurement="mes")


def test_settings_of_absent_modifiers_are_ignored_as_in_pyhf(specs):
    spec = change(specs["normsys"], CONFIG, [{"name": "absent", "inits": [2.0]}])
    assert from_workspace(spec)[0].parameters == ("norm", "mu")
