"""Settings of the measurement have the meaning that they have in pyhf; XML files too."""

from __future__ import annotations

import copy

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

from difana._errors import ModelError
from difana.likelihood import from_workspace, read_xml, to_workspace

RTOL = 1e-10


@eqx.filter_jit
def densities(model, params, data):
    return jax.vmap(model.logpdf)(params, data), jax.vmap(model.expected)(params)


def assert_as_in_pyhf(spec, reference, points, *, interpolation=None, spread=1.5):
    theirs = reference(spec)
    if interpolation is not None:
        codes = {kind: {"interpcode": code} for kind, code in interpolation.items()}
        theirs.model = theirs.workspace.model(modifier_settings=codes)
        theirs.observed = np.asarray(theirs.workspace.data(theirs.model))
    model, data = from_workspace(spec, interpolation=interpolation)
    np.testing.assert_allclose(theirs.data(model, data), theirs.observed, rtol=RTOL)
    config = theirs.model.config
    np.testing.assert_allclose(theirs.params(model, model.init), config.suggested_init())
    params, sets = points(model, data, 11, 3, spread)
    # what is held stays where it is: only there do constraints of no width count
    params = jnp.where(model.fixed, model.init, params)
    ours, expected = densities(model, params, sets)
    for i in range(3):
        np.testing.assert_allclose(ours[i], theirs.logpdf(model, params[i], sets[i]), rtol=RTOL)
        np.testing.assert_allclose(
            theirs.data(model, expected[i]), theirs.expected(model, params[i]), rtol=RTOL
        )
    return model, data


SETTINGS = {
    "factors of a shapesys": ("shapesys", {"name": "unc", "factors": [100.0, 30.0]}),
    "auxdata of a shapesys": ("shapesys", {"name": "unc", "auxdata": [250.0, 60.0]}),
    "both of a shapesys": (
        "shapesys",
        {"name": "unc", "auxdata": [90.0, 35.0], "factors": [100.0, 30.0]},
    ),
    "shapesys with an empty bin": ("shapesys_zero", {"name": "unc", "auxdata": [30.0, 1.0]}),
    "sigmas of a staterror": ("staterror", {"name": "stat", "sigmas": [0.2, 1.0]}),
    "auxdata of a staterror": ("staterror", {"name": "stat", "auxdata": [1.1, 1.0]}),
    "sigmas of a shared staterror": (
        "staterror_shared_by_samples",
        {"name": "stat", "sigmas": [0.2, 0.3], "inits": [0.9, 1.1]},
    ),
    "bounds of a staterror": ("staterror", {"name": "stat", "bounds": [[0.5, 2.0], [0.1, 3.0]]}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name, specs, reference, points):
    base, setting = SETTINGS[name]
    spec = copy.deepcopy(specs[base])
    spec["measurements"][0]["config"]["parameters"] = [setting]
    model, data = assert_as_in_pyhf(spec, reference, points)
    written = to_workspace(model, data)
    pyhf.schema.validate(written, "workspace.json")
    again, again_data = from_workspace(written)
    np.testing.assert_allclose(data, again_data, rtol=1e-12)
    ours = model.constraint_scales()[0], model.centers
    for one, other in zip(ours, (again.constraint_scales()[0], again.centers), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_staterror_in_two_channels(specs):
    """pyhf makes one set of all bins, here there is one a channel: compare entry by entry."""
    spec = copy.deepcopy(specs["staterror_shared_by_samples"])
    channel = copy.deepcopy(spec["channels"][0]) | {"name": "CR"}
    spec["channels"].append(channel)
    spec["observations"].append({"name": "CR", "data": [60.0, 11.0]})
    sigmas, inits = [0.1, 0.2, 0.3, 0.4], [0.9, 1.0, 1.1, 1.2]
    setting = {"name": "stat", "sigmas": sigmas, "inits": inits}
    spec["measurements"][0]["config"]["parameters"] = [setting]
    theirs = pyhf.Workspace(spec).model()
    paramset = theirs.config.param_set("stat")
    model, data = from_workspace(spec)
    names = [f"stat_{c}[{i}]" for c in ("CR", "SR") for i in range(2)]
    at = [model.index(name) for name in names]
    np.testing.assert_allclose(model.init[jnp.array(at)], paramset.suggested_init)
    widths = np.zeros(len(model.parameters))
    widths[model.structure.constrained] = model.constraint_scales()[0]
    np.testing.assert_allclose(widths[at], paramset.width())
    pars = np.array(theirs.config.suggested_init())
    observed = pyhf.Workspace(spec).data(theirs)
    np.testing.assert_allclose(
        model.logpdf(model.init, data), float(theirs.logpdf(pars, observed)[0]), rtol=RTOL
    )


@pytest.mark.parametrize(
    ("base", "setting"),
    [
        ("normsys", {"name": "norm", "sigmas": [2.0]}),
        ("normsys", {"name": "norm", "inits": [0.0, 1.0]}),
        ("normfactor", {"name": "k", "auxdata": [1.0]}),
        ("shapesys", {"name": "unc", "sigmas": [1.0, 1.0]}),
        ("staterror", {"name": "stat", "factors": [1.0, 1.0]}),
        ("staterror", {"name": "stat", "bounds": [[0.0, 1.0]]}),
        ("shapefactor", {"name": "free", "sigmas": [1.0, 1.0]}),
    ],
)
def test_what_pyhf_refuses_is_refused(base, setting, specs):
    spec = copy.deepcopy(specs[base])
    spec["measurements"][0]["config"]["parameters"] = [setting]
    with pytest.raises(pyhf.exceptions.InvalidModel):
        pyhf.Workspace(spec).model()
    with pytest.raises(ModelError, match=rf"parameter '{setting['name']}' of the measurement"):
        from_workspace(spec)


def test_widths_must_be_positive(specs):
    spec = copy.deepcopy(specs["staterror"])
    setting = {"name": "stat", "sigmas": [0.0, 1.0]}
    spec["measurements"][0]["config"]["parameters"] = [setting]
    with pytest.raises(ModelError, match="sigmas must be positive"):
        from_workspace(spec)


@pytest.mark.parametrize(
    ("normsys", "histosys", "spread"),
    # code 2 of pyhf 0.7 jumps at +-1, where that of HistFactory is smooth
    [("code1", "code0", 1.5), ("code4", "code2", 0.3)],
)
def test_interpolation_codes(normsys, histosys, spread, specs, reference, points):
    codes = {"normsys": normsys, "histosys": histosys}
    assert_as_in_pyhf(specs["everything"], reference, points, interpolation=codes, spread=spread)


XML = [
    "multibin_histfactory",
    "multichan_coupledhistosys_histfactory",
    "multichannel_histfactory",
    "overallsys_histfactory",
    "shared_nuispar_across_types",
    "xmlimport_input",
    "xmlimport_input3",
]


@pytest.mark.parametrize("name", XML)
def test_histfactory_files(name, data_dir, reference, points):
    folder = data_dir / "likelihoods" / "pyhf-validation" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    tops = [p for p in sorted(folder.glob("config/**/*.xml")) if "<Combination" in p.read_text()]
    assert tops
    spec = read_xml(tops[0])
    assert spec == pyhf.readxml.parse(tops[0], folder)
    if name in ("shared_nuispar_across_types", "xmlimport_input"):
        assert_as_in_pyhf(spec, reference, points)


def test_broken_xml(tmp_path, data_dir):
    path = tmp_path / "top.xml"
    path.write_text("<Combination><Input>")
    with pytest.raises(ModelError, match=r"top.xml' is not XML"):
        read_xml(path)
    with pytest.raises(ModelError, match=r"no HistFactory file .*Did you mean 'top.xml'"):
        read_xml(tmp_path / "topp.xml")
    path.write_text("<Channel/>")
    with pytest.raises(ModelError, match=r"expected <Combination> with <Input>, found <Channel>"):
        read_xml(path)
    path.write_text("<Combination><Input>gone.xml</Input></Combination>")
    with pytest.raises(ModelError, match=r"no file '.*gone.xml'; say with `folder`"):
        read_xml(path)
    (tmp_path / "channel.xml").write_text('<Channel Name="c"><Data/></Channel>')
    path.write_text("<Combination><Input>channel.xml</Input></Combination>")
    with pytest.raises(ModelError, match="missing: HistoName"):
        read_xml(path)
    (tmp_path / "channel.xml").write_text('<Channel Name="c"></Channel>')
    with pytest.raises(ModelError, match="Channel c is missing data"):
        read_xml(path)


def test_files_that_moved_are_found_beside_the_xml(tmp_path):
    """Exports name files where they were written; the ones beside the XML are read, then."""
    uproot = pytest.importorskip("uproot")
    edges = np.array([0.0, 1.0, 2.0])
    with uproot.recreate(tmp_path / "histograms.root") as file:
        file["data"] = np.array([12.0, 9.0]), edges
        file["signal"] = np.array([3.0, 1.0]), edges
        file["high"] = np.array([4.0, 2.0]), edges
        file["low"] = np.array([2.0, 0.5]), edges
    away = "/home/somebody/fit"
    (tmp_path / "channel.xml").write_text(
        f'<Channel Name="SR" InputFile="{away}/histograms.root"><Data HistoName="data"/>'
        '<Sample Name="signal" HistoName="signal"><NormFactor Name="mu" Val="1" Low="0" High="9"/>'
        '<HistoSys Name="jes" HistoFileHigh="results/histograms.root" HistoNameHigh="high" '
        'HistoFileLow="histograms.root" HistoNameLow="low"/></Sample></Channel>'
    )
    top = tmp_path / "top.xml"
    top.write_text(
        f"<Combination><Input>{away}/channel.xml</Input><Measurement Name='m' Lumi='1' "
        "LumiRelErr='0.1'><POI>mu</POI></Measurement></Combination>"
    )
    (sample,) = read_xml(top)["channels"][0]["samples"]
    assert sample["data"] == [3.0, 1.0]
    assert sample["modifiers"][1]["data"] == {"hi_data": [4.0, 2.0], "lo_data": [2.0, 0.5]}
    # a file that stands where the XML says is the one that is read
    (tmp_path / "results").mkdir()
    with uproot.recreate(tmp_path / "results" / "histograms.root") as file:
        file["high"] = np.array([5.0, 2.5]), edges
    (sample,) = read_xml(top, folder=tmp_path)["channels"][0]["samples"]
    assert sample["modifiers"][1]["data"]["hi_data"] == [5.0, 2.5]
    (tmp_path / "histograms.root").unlink()
    with pytest.raises(ModelError, match=r"Channel 'SR': no ROOT file .* beside the XML"):
        read_xml(top)
