"""CLs, limits and significances are those of pyhf, whose minima must be exact for that."""

from __future__ import annotations

import json
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jsonpatch
import numpy as np
import pytest
from scipy import stats

from difana.infer import hypotest, trustworthy
from difana.infer.statistics import four_fits
from difana.likelihood import from_workspace, to_workspace

SETTINGS = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
PLAIN = {"normsys": "code1", "histosys": "code0"}
BAND = np.arange(-2.0, 3.0)
cls_at_one = eqx.filter_jit(lambda model, data: hypotest(model, data, mu=1.0))


def cls_of_q(result):
    """Return CLs of q (not q-tilde), which pyhf's validation suite quotes."""
    root, root_asimov = np.sqrt(result.q), np.sqrt(result.q_asimov)
    return stats.norm.sf(root) / stats.norm.sf(root - root_asimov)


def test_uncorrelated_background(counting):
    result = counting([12.0, 11.0], [50.0, 52.0], [3.0, 7.0], [51.0, 48.0])
    np.testing.assert_allclose(result["cls"].observed, 0.0525155253, rtol=1e-8)
    np.testing.assert_allclose(result["limit"].observed, 1.0115718820, rtol=1e-8)
    np.testing.assert_allclose(
        result["limit"].expected,
        [0.55988426, 0.75702902, 1.062355, 1.50118083, 2.05080203],
        rtol=1e-7,
    )
    assert result["limit"].observed.dtype == jnp.float64
    assert float(result["limit"].median) == float(result["limit"].expected[2])
    # what pyhf prints with its default optimiser, good to 1e-5
    np.testing.assert_allclose(result["cls"].observed, 0.05251497, rtol=2e-5)
    np.testing.assert_allclose(result["limit"].observed, 1.0115694, rtol=1e-5)
    np.testing.assert_allclose(
        result["limit"].expected, [0.559880, 0.757023, 1.062347, 1.501169, 2.050788], rtol=2e-5
    )
    np.testing.assert_allclose(
        result["cls"].expected,
        [0.00260626, 0.01382005, 0.06445321, 0.23525644, 0.57303621],
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    ("numbers", "observed", "expected", "tolerance"),
    [
        # 1bin_shapesys of pyhf's tests/test_validation.py
        ((10.0, 50.0, 7.0, 55.0), 0.45418892944576333, 0.3279657430196915, 1e-5),
        # a bin without uncertainty, compared there with ROOT
        (
            ([20.0, 10.0], [100.0, 10.0], [10.0, 0.0], [100.0, 10.0]),
            0.004360634405484502,
            0.004360634386335687,
            1e-5,
        ),
    ],
)
def test_validation_suite_without_further_modifiers(
    counting, numbers, observed, expected, tolerance
):
    result = counting(*numbers)["cls"]
    np.testing.assert_allclose(result.observed, observed, rtol=tolerance)
    np.testing.assert_allclose(result.expected[2], expected, rtol=2 * tolerance)


def test_validation_suite_discovery(counting):
    # 1bin_shapesys_q0: a signal of 25 on 50 +- 7, 80 events
    result = counting(25.0, 50.0, 7.0, 80.0)["significance"]
    np.testing.assert_allclose(result.observed_p, 0.003936883191585841, rtol=3e-4)
    np.testing.assert_allclose(result.expected_p, 0.013202867164405075, rtol=3e-4)


def modifier(kind: str, name: str, data: Any = None) -> dict[str, Any]:
    return {"name": name, "type": kind, "data": data}


def sample(name: str, data: list[float], *modifiers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "data": data, "modifiers": list(modifiers)}


MU = modifier("normfactor", "mu")
COUPLED = modifier("normsys", "coupled", {"hi": 1.1, "lo": 0.9})
LUMI = {"name": "lumi", "auxdata": [1.0], "bounds": [[0.0, 10.0]], "inits": [1.0], "sigmas": [0.1]}


def load(data_dir, name):
    path = data_dir / "likelihoods" / "pyhf-validation" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    content = json.loads(path.read_text(encoding="utf-8"))
    channels = content.get("channels", {"SR": content})
    return {name: channel["bindata"] for name, channel in channels.items()}


def lumi(d):
    signal, *rest = d["SR"]["sig"], d["SR"]["bkg1"], d["SR"]["bkg2"]
    backgrounds = [sample(f"b{i}", x, modifier("lumi", "lumi")) for i, x in enumerate(rest)]
    return {"SR": [sample("s", signal, MU), *backgrounds]}


def normsys(d):
    return {"SR": [sample("s", d["SR"]["sig"], MU), sample("b", d["SR"]["bkg"], COUPLED)]}


def shift(d, name, prefix=""):
    data = {"hi_data": d[f"{prefix}_up"], "lo_data": d[f"{prefix}_dn"]}
    return modifier("histosys", name, data)


def histosys(d):
    d = d["SR"]
    return {"SR": [sample("s", d["sig"], MU), sample("b", d["bkg"], shift(d, "b", "bkgsys"))]}


def two_channels(d):
    samples = {
        name: [sample("b", c["bkg"], modifier("shapesys", f"unc_{name}", c["bkgerr"]))]
        for name, c in d.items()
    }
    samples["signal"].append(sample("s", d["signal"]["sig"], MU))
    return samples


def coupled_norm(d):
    wide = modifier("normsys", "coupled", {"hi": 1.5, "lo": 0.5})
    d, control = d["signal"], d["control"]
    return {
        "signal": [
            sample("s", d["sig"], MU),
            sample("b1", d["bkg1"], COUPLED),
            sample("b2", d["bkg2"], wide),
        ],
        "control": [sample("b1", control["bkg1"], COUPLED)],
    }


def coupled_shape(d):
    d, control = d["signal"], d["control"]
    return {
        "signal": [
            sample("s", d["sig"], MU),
            sample("b1", d["bkg1"], shift(d, "shape", "bkg1")),
            sample("b2", d["bkg2"], shift(d, "shape", "bkg2")),
        ],
        "control": [sample("b1", control["bkg1"], shift(control, "shape", "bkg1"))],
    }


def coupled_factor(d):
    free = modifier("shapefactor", "free")
    return {
        "signal": [sample("s", d["signal"]["sig"], MU), sample("b1", d["signal"]["bkg1"], free)],
        "control": [sample("b1", d["control"]["bkg1"], free)],
    }


# pyhf's tests/test_validation.py: observed and median expected CLs at mu = 1, with the precision of
# its optimiser there. It quotes normsys and histosys with interpolation codes 1 and 0.
VALIDATION = {
    "1bin_lumi": (lumi, 0.010473144401519705, 0.13614632580079802, 5e-5),
    "1bin_normsys": (normsys, 0.0006735336290569807, 3.690120950161796e-06, 5e-5),
    "2bin_histosys_example2": (histosys, 0.1001463460725534, 0.001880010666437615, 1e-4),
    "2bin_2channel_example1": (two_channels, 0.0563327694384318, 0.02337454317608372, 2e-5),
    "2bin_2channel_couplednorm": (
        coupled_norm,
        0.5906216823766879,
        0.30686879632329855,
        5e-5,
    ),
    "2bin_2channel_coupledhisto": (
        coupled_shape,
        0.07967400132261188,
        0.0033401113678772156,
        2e-5,
    ),
    "2bin_2channel_coupledshapefactor": (
        coupled_factor,
        0.5421679124909312,
        0.15555296253957684,
        2e-5,
    ),
}
CASES = list(VALIDATION)


def compare_with_pyhf(spec, result, pyhf, tolerance=1e-6, settings=None):
    """Compare observed and expected CLs with pyhf at its best."""
    workspace = pyhf.Workspace(spec)
    codes = SETTINGS if settings is None else {k: {"interpcode": v} for k, v in settings.items()}
    theirs = workspace.model(modifier_settings=codes)
    observed, band = pyhf.infer.hypotest(
        1.0, workspace.data(theirs), theirs, test_stat="qtilde", return_expected_set=True
    )
    np.testing.assert_allclose(result.observed, observed, rtol=tolerance)
    np.testing.assert_allclose(result.expected, np.ravel(band), rtol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_validation_suite(name, data_dir, exact_pyhf):
    channels, observed, expected, tolerance = VALIDATION[name]
    numbers = load(data_dir, name)
    if name == "1bin_lumi":  # the quoted values use the data of another file
        numbers["SR"]["data"] = load(data_dir, "1bin_example1")["SR"]["data"]
    spec = {
        "channels": [{"name": n, "samples": s} for n, s in channels(numbers).items()],
        "observations": [{"name": n, "data": d["data"]} for n, d in numbers.items()],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": [LUMI]}}],
        "version": "1.0.0",
    }
    plain = cls_at_one(*from_workspace(spec, interpolation=PLAIN))
    np.testing.assert_allclose(cls_of_q(plain), observed, rtol=tolerance)
    np.testing.assert_allclose(plain.expected[2], expected, rtol=2 * tolerance)
    assert bool(trustworthy(plain.status))
    compare_with_pyhf(spec, plain, exact_pyhf, settings=PLAIN)
    result = cls_at_one(*from_workspace(spec))
    assert bool(trustworthy(result.status))
    if name != "2bin_2channel_coupledhisto":  # see the next test
        compare_with_pyhf(spec, result, exact_pyhf)


def test_of_two_minima_the_deeper_one(data_dir, exact_pyhf):
    numbers = load(data_dir, "2bin_2channel_coupledhisto")
    spec = {
        "channels": [{"name": n, "samples": s} for n, s in coupled_shape(numbers).items()],
        "observations": [{"name": n, "data": d["data"]} for n, d in numbers.items()],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }
    model, data = from_workspace(spec)
    workspace = exact_pyhf.Workspace(spec)
    theirs = workspace.model(modifier_settings=SETTINGS)
    vector = workspace.data(theirs)
    assert theirs.config.par_order == ["shape", "mu"]
    fits = eqx.filter_jit(lambda m, d: four_fits(m, d, jnp.ones(())))(model, data)
    order = [model.index("shape"), model.index("mu")]

    def deviance(params, on):
        return -2 * float(np.squeeze(theirs.logpdf(np.asarray(params), on)))

    # pyhf started near our minimum stays there, and from its usual start ends higher
    near, at = exact_pyhf.infer.mle.fit(
        vector,
        theirs,
        init_pars=list(map(float, fits.free.params[np.array(order)])),
        return_fitted_val=True,
    )
    np.testing.assert_allclose(fits.free.params[np.array(order)], near, atol=1e-5)
    _, usual = exact_pyhf.infer.mle.fit(vector, theirs, return_fitted_val=True)
    assert at < usual - 1.0
    # the conditional fits agree
    asimov = theirs.expected_data(np.asarray(fits.null.params[np.array(order)]))
    for fit, mu, on in ((fits.null, 0, vector), (fits.tested, 1, vector), (fits.asimov, 1, asimov)):
        _, value = exact_pyhf.infer.mle.fixed_poi_fit(mu, on, theirs, return_fitted_val=True)
        assert deviance(fit.params[np.array(order)], on) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("data", ["excess", pytest.param("deficit", marks=pytest.mark.slow)])
def test_every_modifier_at_once(data, rich, evaluate, exact_pyhf):
    pyhf = exact_pyhf
    observed = getattr(rich, data)
    result = evaluate(rich.model, observed)
    spec = to_workspace(rich.model, rich.model.data(observed))
    compare_with_pyhf(spec, result["cls"], pyhf)
    workspace = pyhf.Workspace(spec)
    theirs = workspace.model(modifier_settings=SETTINGS)
    vector = workspace.data(theirs)
    # the limits are where CLs is 5 %
    limit = result["limit"]
    at_limit = pyhf.infer.hypotest(float(limit.observed), vector, theirs)
    np.testing.assert_allclose(at_limit, 0.05, rtol=1e-6)
    for i in (0, 2):
        _, band = pyhf.infer.hypotest(
            float(limit.expected[i]), vector, theirs, return_expected_set=True
        )
        np.testing.assert_allclose(band[i], 0.05, rtol=1e-6)
    p_value, expected = pyhf.infer.hypotest(
        0.0, vector, theirs, test_stat="q0", return_expected=True
    )
    np.testing.assert_allclose(result["significance"].observed_p, p_value, rtol=1e-5)
    np.testing.assert_allclose(result["significance"].expected_p, expected, rtol=1e-6)
    pars, twice_nll = pyhf.infer.mle.fit(vector, theirs, return_fitted_val=True)
    np.testing.assert_allclose(2 * result["fit"].nll, twice_nll, rtol=1e-9)
    for name, start, size, _ in rich.model.structure.sets:
        np.testing.assert_allclose(
            result["fit"].params[start : start + size],
            pars[theirs.config.par_slice(name)],
            atol=2e-5,
            err_msg=name,
        )


SBOTTOM = {
    "1300_205_60": (
        0.24443627759085326,
        [0.0902251, 0.1937839, 0.3843234, 0.6557757, 0.8910421],
    ),
    "1400_950_60": (
        0.021373283911064852,
        [0.0026446, 0.0139761, 0.0649711, 0.2364403, 0.5744786],
    ),
    "1500_850_60": (
        0.045367205665400624,
        [0.0059843, 0.0261022, 0.1009364, 0.3101925, 0.6553623],
    ),
}


def sbottom(data_dir, point):
    folder = data_dir / "likelihoods" / "sbottom-RegionA"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    patch = json.loads((folder / f"patch.sbottom_{point}.json").read_text(encoding="utf-8"))
    background = json.loads((folder / "BkgOnly.json").read_text(encoding="utf-8"))
    return from_workspace(jsonpatch.JsonPatch(patch).apply(background))


def check_sbottom(data_dir, point):
    model, data = sbottom(data_dir, point)
    result = cls_at_one(model, data)
    assert bool(trustworthy(result.status))
    observed, expected = SBOTTOM[point]
    np.testing.assert_allclose(result.observed, observed, rtol=2e-5)
    np.testing.assert_allclose(result.expected, expected, rtol=1e-4)


def test_published_likelihood(data_dir):
    check_sbottom(data_dir, "1300_205_60")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["1400_950_60", "1500_850_60"])
def test_further_signal_points(data_dir, point):
    check_sbottom(data_dir, point)


@pytest.mark.slow
def test_limits_of_a_published_likelihood(data_dir, evaluate):
    model, data = sbottom(data_dir, "1300_205_60")
    result = evaluate(model, data[: model.bins])["limit"]
    assert result.ok, result.message
    at_limit = eqx.filter_jit(hypotest)(model, data, mu=result.observed)
    np.testing.assert_allclose(at_limit.observed, 0.05, rtol=1e-8)
    assert 1.5 < float(result.observed) < 2.5
    assert (np.diff(result.expected) > 0).all()
