"""Other signals without another model: one at a time, and a whole grid stacked."""

from __future__ import annotations

import copy

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ModelError
from difana.likelihood import (
    PatchSet,
    from_workspace,
    prune,
    read_patchset,
    signal_points,
    with_signal,
)


@eqx.filter_jit
def evaluate(model, params, data):
    return model.expected(params), model.logpdf(params, data)


def mod(kind, name, data=None):
    return {"name": name, "type": kind, "data": data}


def grid(spec):
    """Points whose signals differ in channels, samples and modifiers of every kind."""
    mu = mod("normfactor", "mu")

    def add(channel, name, data, *modifiers):
        value = {"name": name, "data": data, "modifiers": [mu, *modifiers]}
        return {"op": "add", "path": f"/channels/{channel}/samples/-", "value": value}

    sys = mod("normsys", "norm", {"hi": 1.3, "lo": 0.8})
    shape = mod("histosys", "shape", {"hi_data": [6.0, 5.0, 1.0], "lo_data": [4.0, 3.0, 0.5]})
    stat = mod("staterror", "stat_SR", [0.5, 0.2, 0.1])
    poisson = mod("shapesys", "signal_unc", [1.0, 0.5, 0.0])
    own = mod("normfactor", "k_factor")
    replaced = copy.deepcopy(spec["channels"][0]["samples"][0])
    replaced["data"] = [45.0, 41.0, 28.0]
    patches = [
        [add(0, "s_1", [5.0, 4.0, 0.8], sys, shape, stat), add(1, "s_1", [1.0, 0.5, 0.2], sys)],
        [add(0, "s_2", [7.0, 1.0, 0.0], stat)],
        [add(0, "s_3", [5.0, 4.0, 0.8], shape, poisson), add(0, "s_3b", [1.0, 2.0, 3.0])],
        [
            add(1, "s_4", [2.0, 2.0, 2.0], own, shape),
            {"op": "replace", "path": "/channels/0/samples/0", "value": replaced},
            {"op": "replace", "path": "/observations/0/data", "value": [71.0, 50.0, 41.0]},
        ],
        [
            add(0, "s_5", [5.0, 4.0, 0.8]),
            {"op": "remove", "path": "/channels/0/samples/1"},
            {"op": "add", "path": "/channels/0/samples/0/modifiers/-", "value": mod(
                "normsys", "more", {"hi": 1.1, "lo": 0.9})},
        ],
    ]  # fmt: skip
    names = tuple(f"p{i}" for i in range(len(patches)))
    return PatchSet(names, tuple((float(i),) for i in range(5)), ("m",), "", {}, tuple(patches))


@pytest.fixture(scope="module")
def background(specs):
    return prune(specs["everything"], samples=["signal"])


@pytest.fixture(scope="module")
def stacked(background):
    return signal_points(background, grid(background))


def assert_point(stacked, i, model, data, *, seed=0):
    """Compare with the own model of a point at a random place."""
    ours, our_data = stacked.point(i)
    rng = np.random.default_rng(seed + i)
    spread = {"free": 0.5, "normal": 1.5, "gamma": 0.2, "poisson": 0.2, "lumi": 0.05}
    places = {}
    for m in (ours, model):
        for _, start, size, kind in m.structure.sets:
            for j in range(start, start + size):
                change = rng.normal(0, spread[kind])
                places.setdefault(m.parameters[j], float(m.init[j]) + change)
    held = dict(zip(ours.parameters, np.asarray(stacked.absent[i]), strict=True))
    assert {name for name, absent in held.items() if not absent} == set(model.parameters)
    params = jnp.array([places[name] for name in ours.parameters])
    # what a point lacks sits at its centre: its constraints are known constants
    params = jnp.where(stacked.absent[i], ours.init, params)
    own = jnp.array([places[name] for name in model.parameters])
    expected, density = evaluate(ours, params, our_data)
    own_expected, own_density = evaluate(model, own, data)
    bins = model.bins
    np.testing.assert_allclose(expected[:bins], own_expected[:bins], rtol=1e-12)
    np.testing.assert_array_equal(our_data[:bins], data[:bins])
    s, constants = ours.structure, 0.0
    widths, tau = (np.asarray(x) for x in eqx.filter_jit(type(ours).constraint_scales)(ours))
    for c, p in enumerate(s.constrained):
        if stacked.absent[i, p]:
            n = tau[c]
            constants += (
                float(n * np.log(n) - n - jax.lax.lgamma(n + 1.0))
                if s.poisson[c]
                else -np.log(widths[c] * np.sqrt(2 * np.pi))
            )
    np.testing.assert_allclose(density - constants, own_density, rtol=1e-11)


@pytest.mark.parametrize("i", range(5))
def test_stacked_points_are_their_own_models(i, stacked, background):
    points = grid(background)
    model, data = from_workspace(background, patches=[points.patches[i]])
    assert_point(stacked, i, model, data)


def test_one_function_serves_all_points(stacked):
    assert len(stacked) == 5
    assert stacked.names == ("p0", "p1", "p2", "p3", "p4")

    def total(model, data):
        return model.logpdf(model.init, data)

    mapped, looped = eqx.filter_jit(
        lambda m, d: (jax.vmap(total)(m, d), jax.lax.map(lambda pair: total(*pair), (m, d)))
    )(stacked.model, stacked.data)
    np.testing.assert_allclose(mapped, looped, rtol=1e-12)
    free = dict(zip(stacked.model.structure.parameters, stacked.absent.T.tolist(), strict=True))
    assert free["k_factor"] == [True, True, True, False, True]
    assert free["mu"] == [False] * 5


def test_some_points_by_name_or_value(stacked, background):
    some = signal_points(background, grid(background), points=["p3", (1.0,)])
    assert (some.names, some.values, some.labels) == (("p3", "p1"), ((3.0,), (1.0,)), ("m",))
    bins = some.model.structure.bins
    np.testing.assert_array_equal(some.data[:, :bins], stacked.data[jnp.array([3, 1]), :bins])
    for one, both in zip(some.model.nominal, stacked.model.nominal[jnp.array([3, 1])], strict=True):
        np.testing.assert_allclose(one.sum(), both.sum())


def test_points_that_cannot_be_stacked(background):
    def points(*patches):
        names = tuple(f"p{i}" for i in range(len(patches)))
        values = tuple((i,) for i in range(len(patches)))
        return PatchSet(names, values, ("m",), "", {}, patches)

    good = grid(background).patches[0]
    parameters = "/measurements/0/config/parameters/0/inits"
    other = [*good, {"op": "replace", "path": parameters, "value": [1.01]}]
    twice = [*good, good[0]]
    stat = {"op": "add", "path": "/measurements/0/config/parameters/-",
            "value": {"name": "stat_SR", "sigmas": [0.1, 0.1, 0.1]}}  # fmt: skip
    for patches, message in (
        ((good, other), "point 'p1' changes the measurement otherwise than 'p0'"),
        (([{"op": "remove", "path": "/channels/1"}],), "'p0'.*adds, removes or renames channels"),
        (([{"op": "remove", "path": "/version"}],), "it leaves no workspace"),
        ((twice,), "two samples called 's_1'"),
        (([good[0] | {"path": "/channel/0"}],), "'p0' of the patch set: patch operation 0"),
        (([*good, stat],), "sets the constraint of 'stat_SR'"),
        (([good[0] | {"value": {"name": "s", "data": [1.0], "modifiers": []}}],),
         "1 numbers where 3"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            signal_points(background, points(*patches))
    with pytest.raises(ModelError, match="no points are asked for"):
        signal_points(background, points(good), points=[])
    with pytest.raises(ModelError, match="no point 'q'"):
        signal_points(background, points(good), points=["q"])


def test_with_signal_replaces_the_numbers_of_the_signal(specs):
    spec = copy.deepcopy(specs["everything"])
    (channel,) = [c for c in spec["channels"] if c["name"] == "SR"]
    shape = {"hi_data": [13.0, 12.0, 5.0], "lo_data": [10.0, 10.0, 3.0]}
    channel["samples"][0]["modifiers"] += [
        mod("histosys", "shape", shape), mod("staterror", "stat_SR", [1.0, 2.0, 3.0]),
    ]  # fmt: skip
    model, _ = from_workspace(spec)
    new = np.array([24.0, 0.0, 8.0])
    channel["samples"][0]["data"] = new.tolist()
    for entry in channel["samples"][0]["modifiers"]:
        if entry["type"] == "histosys":
            entry["data"] = {"hi_data": [26.0, 0.0, 10.0], "lo_data": [20.0, 0.0, 6.0]}
        if entry["type"] == "staterror":
            entry["data"] = [2.0, 0.0, 6.0]
    expected, _ = from_workspace(spec)
    found = eqx.filter_jit(with_signal)(model, {"SR": jnp.asarray(new)})
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    given = with_signal(
        model,
        {"SR": [24.0, 1.0, 8.0]},
        sample="signal",
        histosys={"SR": {"shape": ([25.0, 1.0, 9.0], [23.0, 1.0, 7.0])}},
        normsys={"SR": {"norm": (1.5, 0.5)}},
        staterror={"SR": [0.1, 0.2, 0.3]},
    )
    start = model.structure.channels[1].templates[1]
    assert start.name == "signal"
    places = {layout.kind: layout.start for layout in start.modifiers}
    assert given.histosys_hi[places["histosys"] :][:3].tolist() == [25.0, 1.0, 9.0]
    assert given.histosys_lo[places["histosys"] :][:3].tolist() == [23.0, 1.0, 7.0]
    assert given.normsys_hi[places["normsys"]] == 1.5
    assert given.staterror[places["staterror"] :][:3].tolist() == [0.1, 0.2, 0.3]
    # a bin that was empty has no shift to keep
    empty = with_signal(with_signal(model, {"SR": [0.0, 0.0, 0.0]}), {"SR": new})
    assert empty.histosys_hi[places["histosys"] :][:3].tolist() == new.tolist()


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"SS": [1.0]}, {}, "no channel 'SS'. Did you mean 'SR'"),
        ({"SR": [1.0]}, {}, r"shape \(1,\), not \(3,\)"),
        ({"CR": [1.0, 2.0, 3.0]}, {}, r"steers \[\] in channel 'CR', not one sample"),
        ({"SR": [1.0] * 3}, {"sample": "sinal"}, "no sample 'sinal' in 'SR'. Did you mean"),
        ({}, {"normsys": {"SR": {"nrm": (1.0, 1.0)}}}, "no normsys 'nrm'. Did you mean 'norm'"),
        ({}, {"normsys": {"SR": {"norm": ([1.0, 2.0], 1.0)}}}, "needs 1 numbers"),
        ({}, {"staterror": {"SR": [1.0] * 3}}, "has 0 staterror of 3 bins"),
    ],
)
def test_wrong_signals(values, options, message, specs):
    model, _ = from_workspace(specs["everything"])
    with pytest.raises(ModelError, match=message):
        with_signal(model, values, **options)


def test_the_grid_of_one_lepton_two_b_jets(data_dir):
    folder = data_dir / "likelihoods" / "1Lbb"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    points = read_patchset(folder / "patchsets_v1.json.gz")
    workspace = folder / "workspace_v1.json.gz"
    stacked = signal_points(workspace, points)
    assert (len(stacked), stacked.labels) == (125, ("m1", "m2"))
    assert not stacked.absent.any()
    for values in ((700, 400), (1000, 0)):
        i = points.index(values)
        model, data = from_workspace(workspace, patches=[points.patches[i]])
        assert_point(stacked, i, model, data)
