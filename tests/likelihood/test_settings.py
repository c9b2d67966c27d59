"""Models with other settings, workspaces without observations, bins left out."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from difana._errors import ModelError
from difana.infer import fit, upper_limit
from difana.likelihood import (
    combine,
    from_workspace,
    model_from_workspace,
    model_with,
    prune,
    prune_bins,
    read_workspace,
    rename,
    sort_workspace,
)


def normfactor(name):
    return {"name": name, "type": "normfactor", "data": None}


def workspace():
    """Return two channels that share a normalisation."""
    background = [
        {"name": "k", "type": "normfactor", "data": None},
        {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
    ]
    shapes = [
        {"name": "unc", "type": "shapesys", "data": [3.0, 7.0, 0.1]},
        {"name": "shape", "type": "histosys", "data": {
            "hi_data": [51.0, 53.0, 0.3], "lo_data": [49.0, 51.0, 0.1]}},
    ]  # fmt: skip
    bins = {"SR": [50.0, 52.0, 0.2], "CR": [100.0, 90.0, 3.0]}
    channels = []
    for name, data in bins.items():
        own = [*background, {"name": "stat", "type": "staterror", "data": [2.0, 3.0, 0.1]}]
        samples = [{"name": "bkg", "data": data, "modifiers": own}]
        if name == "SR":
            samples[0]["modifiers"] = own + shapes
            signal = {"name": "sig", "data": [12.0, 11.0, 0.1], "modifiers": [normfactor("mu")]}
            samples.append(signal)
        channels.append({"name": name, "samples": samples})
    settings = [
        {"name": "k", "bounds": [[0.5, 2.0]]},
        {"name": "unc", "inits": [1.0, 1.1, 1.2]},
        {"name": "stat", "inits": [1.0, 1.01, 1.02, 1.03, 1.04, 1.05]},
    ]
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": [
            {"name": "SR", "data": [51.0, 58.0, 0.0]},
            {"name": "CR", "data": [102.0, 91.0, 4.0]},
        ],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": settings}}],
    }


def test_settings_equal_those_of_a_measurement():
    spec = workspace()
    model, data = from_workspace(spec)
    changed = copy.deepcopy(spec)
    config = changed["measurements"][0]["config"]
    config["parameters"][0] |= {"inits": [1.2], "fixed": True}
    config["parameters"] += [{"name": "mu", "bounds": [[-5.0, 20.0]], "inits": [0.5]}]
    expected, _ = from_workspace(changed)
    found = model_with(model, fixed={"k": 1.2}, init={"mu": 0.5}, bounds={"mu": (-5.0, 20.0)})
    assert found.structure == expected.structure
    for field in ("init", "lower", "upper", "fixed"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    assert not bool(model.fixed[model.index("k")])  # the first one is as before
    np.testing.assert_allclose(
        float(upper_limit(found, data).observed), float(upper_limit(expected, data).observed)
    )


def test_another_parameter_of_interest():
    spec = workspace()
    model, _ = from_workspace(spec)
    for name in ("k", "norm", "mu"):
        changed = copy.deepcopy(spec)
        changed["measurements"][0]["config"]["poi"] = name
        assert model_with(model, poi=name).structure == from_workspace(changed)[0].structure
    # a factor of one bin is no longer eliminated
    index = model.index("unc[0]")
    assert index in model.structure.private
    assert index not in model_with(model, poi="unc[0]").structure.private


def test_settings_of_all_bins_and_their_bounds():
    model, data = from_workspace(workspace())
    held = model_with(model, fixed={"unc": None, "stat_SR": 1.0})
    assert int(held.fixed.sum()) == 6
    best = fit(held, data)
    np.testing.assert_allclose([float(best[f"unc[{i}]"]) for i in range(3)], [1.0, 1.1, 1.2])
    moved = model_with(model, bounds={"k": (1.5, 2.0)})
    assert float(moved.init[moved.index("k")]) == 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poi": "mv"}, "no parameter 'mv'. Did you mean 'mu'"),
        ({"poi": "unc"}, r"one parameter a bin.*'unc\[0\]'"),
        ({"fixed": {"nrm": None}}, "no parameter 'nrm'. Did you mean 'norm'"),
        ({"init": {"mu": 11.0}}, "'mu' cannot be 11, outside its bounds 0 to 10"),
        ({"init": {"mu": float("nan")}}, "finite"),
        ({"fixed": {"k": 0.1}}, "outside its bounds 0.5 to 2"),
        ({"fixed": {"k": 1.1}, "init": {"k": 1.2}}, "cannot be held at 1.1 and at 1.2"),
        ({"bounds": {"mu": (1.0, 1.0)}}, "must rise"),
        ({"bounds": {"mu": (float("nan"), 1.0)}}, "must rise"),
        ({"bounds": {"mv": (0.0, 1.0)}}, "Did you mean 'mu'"),
    ],
)
def test_settings_refused(options, message):
    with pytest.raises(ModelError, match=message):
        model_with(from_workspace(workspace())[0], **options)


def test_observations_may_be_missing():
    full = workspace()
    spec = {key: value for key, value in full.items() if key != "observations"}
    model = model_from_workspace(spec)
    assert model.structure == from_workspace(full)[0].structure
    for changed in (
        sort_workspace(spec),
        prune(spec, modifiers=["norm"]),
        rename(spec, channels={"SR": "A"}),
        prune_bins(spec, below=1.0),
        combine(spec, rename(spec, channels={"SR": "A", "CR": "B"}, measurements={"m": "n"})),
    ):
        assert "observations" not in changed
        read_workspace(changed)
    with pytest.raises(ModelError, match="no observations: only expected results"):
        from_workspace(spec)


@pytest.mark.parametrize("count", [-1, -51.0, -1e-9])
def test_negative_counts_are_refused(count):
    spec = workspace()
    spec["observations"][1]["data"][2] = count
    with pytest.raises(ModelError, match=r"observations\[1\] 'CR'/data/2: .* events observed"):
        read_workspace(spec)
    spec["observations"][1]["data"][2] = 3.5  # Asimov data
    read_workspace(spec)
    model, data = from_workspace(spec)
    where = next(c.start for c in model.structure.channels if c.name == "CR") + 2
    with pytest.raises(ModelError, match=r"channel 'CR', bin 2: .* is negative or not finite"):
        model.data(data[: model.bins].at[where].set(count))


def test_parameter_of_interest_of_a_background_only_workspace():
    spec = prune(workspace(), samples=["sig"])
    with pytest.raises(ModelError, match="'mu' steers no sample: patch in a signal"):
        from_workspace(spec)
    model, data = from_workspace(spec, poi=None)
    assert fit(model, data).ok


@pytest.mark.parametrize("settings", [[], [{"name": "lumi", "auxdata": [1.0]}]])
def test_luminosity_without_settings(settings):
    spec = workspace()
    lumi = {"name": "lumi", "type": "lumi", "data": None}
    spec["channels"][0]["samples"][1]["modifiers"].append(lumi)
    spec["measurements"][0]["config"]["parameters"] += settings
    message = "channel 'SR', sample 'sig': the modifier lumi needs .* \"sigmas\": .0.02."
    with pytest.raises(ModelError, match=message):
        from_workspace(spec)


def test_bins_left_out():
    spec = workspace()
    found = prune_bins(spec, bins={"SR": [1]})
    model, data = from_workspace(found)
    assert model.bins == 5
    assert data[:5].tolist() == [102.0, 91.0, 4.0, 51.0, 0.0]
    starts = {
        name: round(float(x), 2) for name, x in zip(model.parameters, model.init, strict=True)
    }
    assert (starts["unc[0]"], starts["unc[1]"]) == (1.0, 1.2)
    # the settings of a staterror of two channels list CR first
    assert [starts[f"stat_SR[{i}]"] for i in range(2)] == [1.03, 1.05]
    # what stays is what was: the same yields and constraints
    before, _ = from_workspace(spec)
    at = before.slice_of("SR")
    np.testing.assert_allclose(
        model.expected_main(model.init)[model.slice_of("SR")],
        np.delete(np.asarray(before.expected_main(before.init))[at], 1),
    )
    assert [len(o["data"]) for o in prune_bins(spec, below=1.0)["observations"]] == [2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": {"SRR": [0]}}, "no channel 'SRR'. Did you mean 'SR'"),
        ({"bins": {"SR": [3]}}, "no bin 3: it has 3 bins"),
        ({"bins": {"SR": [0, 1, 2]}}, "no bin left"),
        ({"below": 1e3}, "no bin left"),
    ],
)
def test_bins_refused(options, message):
    with pytest.raises(ModelError, match=message):
        prune_bins(workspace(), **options)


def test_a_shared_shape_factor_keeps_the_same_bins():
    spec = workspace()
    for channel in spec["channels"]:
        channel["samples"][0]["modifiers"].append(
            {"name": "free", "type": "shapefactor", "data": None}
        )
    with pytest.raises(ModelError, match="shapefactor 'free' is shared"):
        prune_bins(spec, bins={"SR": [1]})
    assert from_workspace(prune_bins(spec, bins={"SR": [1], "CR": [1]}))[0].bins == 4
