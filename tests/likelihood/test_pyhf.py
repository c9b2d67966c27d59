"""Expected data and densities are those of pyhf, to rounding."""

from __future__ import annotations

import gzip
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jsonpatch
import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difana.likelihood import from_workspace, to_workspace

RTOL = 1e-10
NAMES = [
    "normfactor",
    "normsys",
    "histosys",
    "staterror",
    "lumi",
    "shapesys",
    "shapesys_zero",
    "shapefactor",
    "settings",
    "shared_across_types",
    "staterror_shared_by_samples",
    "everything",
]


@eqx.filter_jit
def densities(model, params, data):
    return jax.vmap(model.logpdf)(params, data), jax.vmap(model.expected)(params), model.fixed


def assert_same_numbers(spec, reference, points, *, number=6, seed=1, spread=1.5):
    """Compare with pyhf at the starting point and at random points with random data."""
    theirs = reference(spec)
    model, data = from_workspace(spec)
    np.testing.assert_allclose(theirs.data(model, data), theirs.observed, rtol=RTOL)
    config = theirs.model.config
    np.testing.assert_allclose(theirs.params(model, model.init), config.suggested_init())
    bounds = np.array(config.suggested_bounds())
    np.testing.assert_allclose(theirs.params(model, model.lower), bounds[:, 0])
    np.testing.assert_allclose(theirs.params(model, model.upper), bounds[:, 1])
    params, sets = points(model, data, seed, number, spread)
    params = jnp.concatenate([model.init[None], params])
    sets = jnp.concatenate([data[None], sets])
    ours, expected, fixed = densities(model, params, sets)
    np.testing.assert_array_equal(
        theirs.params(model, fixed).astype(bool), config.suggested_fixed()
    )
    for i in range(number + 1):
        np.testing.assert_allclose(
            ours[i], theirs.logpdf(model, params[i], sets[i]), rtol=RTOL, err_msg=f"point {i}"
        )
        np.testing.assert_allclose(
            theirs.data(model, expected[i]), theirs.expected(model, params[i]), rtol=RTOL
        )
    return model, data


@pytest.mark.parametrize("name", NAMES)
def test_every_modifier_is_that_of_pyhf(name, specs, reference, points):
    assert_same_numbers(specs[name], reference, points)


def test_every_modifier_is_in_the_table(specs):
    kinds = {
        modifier["type"]
        for channel in specs["everything"]["channels"]
        for sample in channel["samples"]
        for modifier in sample["modifiers"]
    }
    assert len(kinds) == 7
    assert set(NAMES) == set(specs)


def random_workspace(seed: int) -> dict:
    """Return a random workspace of 1-4 channels and samples; any modifier may occur."""
    rng = np.random.default_rng(seed)
    channels, observations = [], []
    for c in range(rng.integers(1, 5)):
        bins = int(rng.integers(1, 4))
        samples = []
        for s in range(rng.integers(1, 5)):
            values = rng.uniform(5.0, 80.0, bins)
            modifiers = [{"name": "mu", "type": "normfactor", "data": None}] if s == 0 else []
            for k in range(2):  # shared by all samples and channels
                if rng.uniform() < 0.5:
                    pair = {"hi": rng.uniform(1.0, 1.4), "lo": rng.uniform(0.6, 1.1)}
                    modifiers.append({"name": f"syst{k}", "type": "normsys", "data": pair})
                if rng.uniform() < 0.5:
                    pair = {
                        "hi_data": (values * rng.uniform(0.8, 1.3, bins)).tolist(),
                        "lo_data": (values * rng.uniform(0.8, 1.3, bins)).tolist(),
                    }
                    modifiers.append({"name": f"syst{k}", "type": "histosys", "data": pair})
            if rng.uniform() < 0.6:
                width = values * rng.uniform(0.0, 0.2, bins) * rng.integers(0, 2, bins)
                modifiers.append({"name": f"stat_{c}", "type": "staterror", "data": width.tolist()})
            if rng.uniform() < 0.4:
                width = values * rng.uniform(0.05, 0.3, bins) * rng.integers(0, 2, bins)
                modifiers.append(
                    {"name": f"unc_{c}{s}", "type": "shapesys", "data": width.tolist()}
                )
            if rng.uniform() < 0.3:
                modifiers.append({"name": f"free_{c}", "type": "shapefactor", "data": None})
            if rng.uniform() < 0.5:
                modifiers.append({"name": "lumi", "type": "lumi", "data": None})
            samples.append({"name": f"s{s}", "data": values.tolist(), "modifiers": modifiers})
        channels.append({"name": f"c{c}", "samples": samples})
        observations.append({"name": f"c{c}", "data": rng.poisson(90.0, bins).tolist()})
    lumi = {"name": "lumi", "auxdata": [1.0], "bounds": [[0.0, 10.0]]}
    config = {"poi": "mu", "parameters": [lumi | {"inits": [1.0], "sigmas": [0.02]}]}
    return {
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": "m", "config": config}],
        "version": "1.0.0",
    }


def gradient_of(function, point, step=2e-3):
    """Return the gradient by central differences of eighth order."""
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    slopes = np.zeros(point.size)
    for i in range(point.size):
        for k, weight in weights.items():
            move = np.zeros(point.size)
            move[i] = k * step
            slopes[i] += weight * (function(point + move) - function(point - move)) / step
    return slopes


def assert_random_workspace(seed, codes, reference, points):
    """Compare densities, expected data and the gradient of the density in every parameter."""
    spec = random_workspace(seed)
    theirs = reference(spec)
    settings = {kind: {"interpcode": code} for kind, code in codes.items()}
    theirs.model = theirs.workspace.model(modifier_settings=settings)
    model, data = from_workspace(spec, interpolation=codes)
    # outside of +-1 pyhf's code 2 jumps
    spread = 0.25 if codes["histosys"] == "code2" else 1.0
    params, sets = points(model, data, seed, 2, spread)
    if codes["histosys"] == "code2":
        params = jnp.clip(params, -0.9, 0.95)
    params = jnp.where(abs(params - jnp.round(params)) < 0.02, params + 0.04, params)  # off kinks
    ours, expected, slopes = densities_and_gradients(model, params, sets)
    for i in range(2):
        np.testing.assert_allclose(
            ours[i], theirs.logpdf(model, params[i], sets[i]), rtol=RTOL, err_msg=str(seed)
        )
        np.testing.assert_allclose(
            theirs.data(model, expected[i]), theirs.expected(model, params[i]), rtol=RTOL
        )
    differences = gradient_of(
        lambda theta: theirs.logpdf(model, theta, sets[0]), np.asarray(params[0])
    )
    np.testing.assert_allclose(
        slopes, differences, rtol=1e-8, atol=1e-8 * np.abs(differences).max(), err_msg=str(seed)
    )


@eqx.filter_jit
def densities_and_gradients(model, params, data):
    densities = jax.vmap(model.logpdf)(params, data)
    expected = jax.vmap(model.expected)(params)
    return densities, expected, jax.grad(model.logpdf)(params[0], data[0])


CODES = st.fixed_dictionaries(
    {
        "normsys": st.sampled_from(["code1", "code4"]),
        "histosys": st.sampled_from(["code0", "code2", "code4p"]),
    }
)
HOW = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@settings(max_examples=3, **HOW)
@given(seed=st.integers(0, 10_000), codes=CODES)
def test_random_workspaces(seed, codes, reference, points):
    assert_random_workspace(seed, codes, reference, points)


@pytest.mark.slow
@settings(max_examples=100, **HOW)
@given(seed=st.integers(0, 10_000), codes=CODES)
def test_many_random_workspaces(seed, codes, reference, points):
    assert_random_workspace(seed, codes, reference, points)


@pytest.mark.parametrize("name", ["everything", "settings"])
def test_written_workspaces_are_read_by_pyhf_with_the_same_numbers(
    name, specs, reference, points, tmp_path
):
    model, data = from_workspace(specs[name])
    spec = to_workspace(model, data, measurement="again")
    path = tmp_path / "workspace.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    pyhf.schema.validate(spec, "workspace.json")
    again, again_data = assert_same_numbers(spec, reference, points, seed=7)
    from_file, _ = from_workspace(path, measurement="again")
    assert again.structure == model.structure == from_file.structure
    for ours, theirs in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(data, again_data)


def test_sbottom_region_a(data_dir, reference, points):
    folder = data_dir / "likelihoods" / "sbottom-RegionA"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    patch = jsonpatch.JsonPatch(json.loads((folder / "patch.sbottom_1300_205_60.json").read_text()))
    spec = patch.apply(json.loads((folder / "BkgOnly.json").read_text()))
    model, _ = assert_same_numbers(spec, reference, points, number=3)
    assert (len(model.parameters), model.structure.histosys_row.size) == (64, 2568)


@pytest.mark.slow
def test_one_lepton_two_b_jets(data_dir, reference, points):
    folder = data_dir / "likelihoods" / "1Lbb"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    spec, patchsets = (
        json.loads(gzip.decompress((folder / name).read_bytes()))
        for name in ("workspace_v1.json.gz", "patchsets_v1.json.gz")
    )
    patchset = patchsets[0] if isinstance(patchsets, list) else patchsets
    patch = next(p for p in patchset["patches"] if "700_400" in p["metadata"]["name"])
    spec = jsonpatch.JsonPatch(patch["patch"]).apply(spec)
    model, _ = assert_same_numbers(spec, reference, points, number=2, spread=0.3)
    assert model.bins == 14
