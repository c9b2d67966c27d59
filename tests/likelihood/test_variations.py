"""Templates of real analyses: smooth, in parts, pruned, clipped; and backgrounds of data."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from click.testing import CliRunner

from difana._errors import ModelError
from difana.cli import main
from difana.infer import fit, upper_limit
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    Parameter,
    StatError,
    Template,
    abcd_templates,
    build_model,
    clip_templates,
    keep_part,
    norm_and_shape,
    prune_small,
    smooth,
    smooth_353qh,
    smooth_templates,
    to_workspace,
    transfer_template,
)

FALLING = 400 * np.exp(-np.linspace(0, 2, 12))
TRUE = {  # ratios to nominal
    "flat": np.full(12, 1.05),
    "slope": 1 + 0.1 * np.linspace(-1, 1, 12),
    "curve": 1 + 0.2 * np.linspace(-1, 1, 12) ** 2,
}
# smooth_353qh_twice of cabinetry 0.6 on these numbers
CABINETRY = [
    (
        [9.0, 1.0, 2.0, 4.0, 3.0, 5.0, 7.0, 1.0],
        [1.75, 1.75, 2.0, 2.875, 4.125, 5.0, 5.25, 5.25],
    ),
    (
        [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0],
        [3.0, 3.0, 3.3125, 4.1875, 5.0, 5.25, 5.1875, 5.0625, 5.0, 5.0, 5.0],
    ),
    (
        [0.0, 1.0, 2.0, 2.0, 2.0, 1.0, 0.5, 0.0, 0.0, 3.0],
        [0.0, 1.0, 11 / 6, 13 / 6, 11 / 6, 1.125, 0.5, 0.125, 0.0, 0.0],
    ),
    (
        [4.0, 3.0, 4.0, 3.0, 4.0, 4.0, 1.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0, 4.0],
        [4.0, 4.0, 4.0, 4.0, 4.0, 3.75, 3.0, 2.25, 2.0, 2.0, 2.0, 2.0, 2.5, 3.5, 4.0],
    ),
]


def pulls(true: np.ndarray, method: str | None) -> np.ndarray:
    """Return the differences from the truth in units of the errors, of 200 simulations."""
    rng, found = np.random.default_rng(5), []
    for _ in range(200):
        varied = rng.poisson(true * FALLING).astype(float)
        if method is not None:
            varied = smooth_templates(FALLING, varied, method=method)
        found.append((varied - true * FALLING) / np.sqrt(true * FALLING))
    return np.array(found)


@pytest.mark.parametrize("method", ["local", "353QH"])
@pytest.mark.parametrize("shape", TRUE)
def test_smoothing_takes_noise_and_leaves_the_shape(method: str, shape: str) -> None:
    """Nearer to the truth in the mean of all bins, without a bias in any, and flat where it is."""
    raw, own = pulls(TRUE[shape], None), pulls(TRUE[shape], method)
    assert np.mean(raw**2) == pytest.approx(1.0, abs=0.1)
    limit = {"local": 0.45, "353QH": 0.6}[method]
    assert np.mean(own**2) < limit
    bias = {"flat": 0.15, "slope": 0.35, "curve": 0.5}[shape]  # errors of one simulation
    assert np.abs(own.mean(axis=0)).max() < bias
    if shape == "flat":  # the largest step that is left between two bins
        assert (
            np.abs(np.diff(own)).max(axis=1).mean() < 0.5 * np.abs(np.diff(raw)).max(axis=1).mean()
        )


def test_smoothing_keeps_yields_and_what_is_smooth() -> None:
    rng = np.random.default_rng(1)
    varied = rng.poisson(1.3 * FALLING).astype(float)
    for method in ("local", "353QH"):
        assert smooth_templates(FALLING, varied, method=method).sum() == pytest.approx(varied.sum())
    for ratio in (TRUE["flat"], TRUE["slope"]):
        np.testing.assert_allclose(smooth_templates(FALLING, ratio * FALLING), ratio * FALLING)
    bump = 1 + 0.3 * np.exp(-0.5 * (np.linspace(-3, 3, 12)) ** 2)  # several bins: followed
    found = smooth_templates(FALLING, bump * FALLING) / FALLING
    np.testing.assert_allclose(found, bump, atol=0.05)
    spike = np.where(np.arange(12) == 6, 1.2, 1.0)  # one bin: noise
    found = smooth_templates(FALLING, spike * FALLING) / FALLING
    assert found.max() < 1.05
    np.testing.assert_array_equal(smooth_templates(FALLING[:4], varied[:4]), varied[:4])
    empty = np.where(np.arange(12) == 3, 0.0, FALLING)
    found = smooth_templates(empty, np.where(np.arange(12) == 3, 0.7, varied))
    assert found[3] == 0.7


@pytest.mark.parametrize(("values", "wanted"), CABINETRY)
def test_353qh_is_that_of_cabinetry(values: list[float], wanted: list[float]) -> None:
    np.testing.assert_allclose(smooth_353qh(values), wanted, rtol=1e-14, atol=1e-14)


def channel() -> Channel:
    """A channel with a noisy variation, a small one, and factors."""
    rng = np.random.default_rng(2)
    noisy = rng.poisson(1.1 * FALLING), rng.poisson(0.9 * FALLING)
    ramp = np.linspace(-1, 1, 12)
    signal = Template(FALLING[::-1] / 20, (NormFactor("mu"), NormSys(1.02, 0.98, "lumi")), name="s")
    background = Template(
        FALLING,
        (
            HistoSys(*(np.asarray(side, float) for side in noisy), "tune"),
            HistoSys(FALLING * (1.05 + 0.002 * ramp), FALLING * (0.95 - 0.002 * ramp), "rate"),
            HistoSys(FALLING * (1 + 0.05 * ramp), FALLING * (1 - 0.05 * ramp), "slope"),
            NormSys(1.001, 0.999, "tiny"),
            StatError(np.sqrt(FALLING), "staterror_SR"),
        ),
        name="b",
    )
    return Channel((signal, background), name="SR")


def test_parts_of_a_variation() -> None:
    nominal, varied = np.array([10.0, 30.0]), np.array([12.0, 32.0])
    factor, shape = norm_and_shape(nominal, varied)
    assert factor == pytest.approx(1.1)
    np.testing.assert_allclose(factor * shape, varied)
    assert shape.sum() == pytest.approx(40.0)
    assert norm_and_shape(nominal, varied).deviation(nominal) == pytest.approx(12 / 1.1 / 10 - 1)
    shapes = {m.name: m for m in keep_part(channel(), "shape").templates[1].modifiers}
    assert set(shapes) == {"tune", "rate", "slope", "staterror_SR"}
    assert shapes["rate"].hi.sum() == pytest.approx(FALLING.sum())
    np.testing.assert_allclose(
        shapes["rate"].hi / FALLING, 1 + 0.002 / 1.05 * np.linspace(-1, 1, 12), atol=1e-3
    )
    factors = {m.name: m for m in keep_part(channel(), "normalization").templates[1].modifiers}
    assert factors["rate"].kind == factors["slope"].kind == "normsys"
    ramp = np.linspace(-1, 1, 12)
    slope = 1 + 0.05 * (ramp * FALLING).sum() / FALLING.sum()
    assert factors["slope"].hi == pytest.approx(slope)
    with pytest.raises(ModelError, match=r"no part 'shapes'.*Did you mean 'shape'"):
        keep_part(channel(), "shapes")


def test_pruning_drops_parts_below_the_thresholds() -> None:
    kept = prune_small(channel(), shape=0.01, normalization=0.01)
    kinds = {m.name: m.kind for m in kept.templates[1].modifiers}
    assert kinds == {
        "tune": "histosys",
        "rate": "normsys",
        "slope": "histosys",
        "staterror_SR": "staterror",
    }
    assert [m.name for m in kept.templates[0].modifiers] == ["mu", "lumi"]
    rate = next(m for m in kept.templates[1].modifiers if m.name == "rate")
    assert rate.hi == pytest.approx(1.05, rel=1e-3)
    # nothing is asked: nothing happens
    for before, after in zip(channel().templates, prune_small(channel()).templates, strict=True):
        assert [m.name for m in before.modifiers] == [m.name for m in after.modifiers]
    # the limit hardly moves, and agrees with pyhf
    models = [
        build_model([c])
        for c in (channel(), prune_small(channel(), shape=0.003, normalization=0.003))
    ]
    first, second = (upper_limit(model).expected[2] for model in models)
    assert float(second) == pytest.approx(float(first), rel=0.03)
    assert not np.isclose(float(second), float(first), rtol=1e-9)


def test_workspaces_are_treated_like_channels(tmp_path: Path) -> None:
    """And pyhf reads what comes out, with the same likelihood."""
    model = build_model([channel()])
    spec = to_workspace(model, model.expected(model.init), measurement="m")
    steps = (
        lambda source: smooth(source, modifiers="tune"),
        lambda source: keep_part(source, "shape", modifiers=["slope"]),
        lambda source: prune_small(source, shape=0.01, normalization=0.01),
    )
    own, changed = channel(), spec
    for step in steps:
        own, changed = step(own), step(changed)
    assert "tiny" not in json.dumps(changed)
    assert "tiny" in json.dumps(spec)
    treated = build_model([own])
    wanted = to_workspace(treated, treated.expected(treated.init), measurement="m")
    for name in ("s", "b"):
        (found,) = [s for s in changed["channels"][0]["samples"] if s["name"] == name]
        (other,) = [s for s in wanted["channels"][0]["samples"] if s["name"] == name]
        for m, n in zip(found["modifiers"], other["modifiers"], strict=True):
            assert (m["name"], m["type"]) == (n["name"], n["type"])
            if m["type"] == "histosys":
                np.testing.assert_allclose(m["data"]["hi_data"], n["data"]["hi_data"])
    settings = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    reference = pyhf.Workspace(changed).model(modifier_settings=settings)
    start = reference.config.suggested_init()
    np.testing.assert_allclose(
        reference.expected_actualdata(start),
        np.asarray(treated.expected_main(treated.init)),
        rtol=1e-12,
    )
    assert set(reference.config.par_order) == {n for n, *_ in treated.structure.sets}
    path = tmp_path / "w.json"
    path.write_text(json.dumps(spec))
    result = CliRunner().invoke(
        main, ["prune", str(path), "--shape", "0.01", "--normalization", "0.01"]
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout) == prune_small(spec, shape=0.01, normalization=0.01)


def test_negative_bins_become_zero_with_a_note() -> None:
    bad = Template(
        [5.0, -0.5, 2.0],
        (HistoSys([6.0, 1.0, -1.0], [4.0, -2.0, 3.0], "x"), StatError([1.0, 0.7, 1.0], "st")),
        name="b",
    )
    found, (note,) = clip_templates(Channel((bad,), name="SR"))
    values, (shape, stat) = found.templates[0].values, found.templates[0].modifiers
    assert values.tolist() == [5.0, 0.0, 2.0]
    assert (shape.hi.tolist(), shape.lo.tolist()) == ([6.0, 0.0, 0.0], [4.0, 0.0, 3.0])
    assert stat.uncertainty == [1.0, 0.7, 1.0]
    assert "sample 'b': 1 negative bin (-0.5 in bin 1) set to 0: its yield is 7 instead" in note
    assert clip_templates(channel())[1] == ()


def test_transfer_factor_from_a_control_region() -> None:
    observed, other = np.array([110.0, 40.0, 3.0]), np.array([10.0, 4.0, 5.0])
    found = transfer_template(
        observed, 0.2, name="fakes", simulated=other, simulated_errors=[3.0, 2.0, 1.0],
        factor_error=0.02, channel="SR",
    )  # fmt: skip
    np.testing.assert_allclose(found.values, [20.0, 7.2, 0.0])
    norm, stat = found.modifiers
    assert (norm.name, norm.hi, norm.lo) == (
        "fakes_transfer",
        pytest.approx(1.1),
        pytest.approx(0.9),
    )
    np.testing.assert_allclose(stat.uncertainty, [0.2 * np.sqrt(119), 0.2 * np.sqrt(44), 0])
    by_bin = transfer_template(
        observed, [0.2, 0.1, 0.1], name="fakes", factor_error=[0.02, 0.05, 0.2]
    )
    (shape,) = by_bin.modifiers
    np.testing.assert_allclose(shape.hi, [0.22 * 110, 0.15 * 40, 0.3 * 3])
    np.testing.assert_allclose(shape.lo, [0.18 * 110, 0.05 * 40, 0])
    with pytest.raises(ModelError, match="'fakes': observed must be finite and not negative"):
        transfer_template([-1.0], 0.2, name="fakes")
    with pytest.raises(ModelError, match="must have the same bins"):
        transfer_template([1.0, 2.0], [0.2, 0.1, 0.1], name="fakes")


@pytest.mark.parametrize("closure", [0.0, 0.2])
def test_abcd_in_the_fit_is_its_formula(closure: float) -> None:
    """A = B C / D, with the relative variance 1/B + 1/C + 1/D; the workspace is one of pyhf."""
    counts = {"B": 400.0, "C": 300.0, "D": 900.0}
    estimate = {name: [1.2 * value] for name, value in counts.items()}  # far from the result
    found = abcd_templates([3.0, 1.0], estimate, name="qcd", closure=closure)
    signal = Template([5.0, 30.0], (NormFactor("mu"),), name="signal")
    channels = [Channel((signal, found["A"]), name="A")]
    channels += [Channel((found[name],), name=name) for name in counts]
    settings = [Parameter(name, bounds=((0.0, 10.0),)) for name in ("qcd_D", "qcd_B", "qcd_C")]
    model = build_model(channels, parameters=settings)
    predicted = counts["B"] * counts["C"] / counts["D"]
    observed = jnp.array([0.75 * predicted + 5.0, 0.25 * predicted + 30.0, *counts.values()])
    data = model.data(observed)
    best = fit(model, data)
    values = dict(zip(best.names, np.asarray(best.params), strict=True))
    assert values["mu"] == pytest.approx(1.0, abs=1e-5)
    rows = np.asarray(model.expected_main(best.params))
    assert rows[:2].sum() - 35.0 == pytest.approx(predicted, rel=1e-5)
    np.testing.assert_allclose(rows[2:], list(counts.values()), rtol=1e-6)
    # what B, C and D alone say of A
    hidden = build_model(channels, poi=None, parameters=settings, masked=["A"])
    alone = fit(hidden, data)
    place = {name: i for i, name in enumerate(alone.names)}
    jacobian = np.asarray(jax.jacobian(lambda p: model.expected_main(p)[:2].sum())(alone.params))
    used = [place[name] for name in place if name != "mu"]
    variance = jacobian[used] @ np.asarray(alone.covariance)[np.ix_(used, used)] @ jacobian[used]
    wanted = sum(1 / value for value in counts.values()) + np.log1p(closure) ** 2
    assert np.sqrt(variance) / predicted == pytest.approx(
        np.sqrt(wanted), rel=1e-2 if closure else 1e-5
    )
    spec = to_workspace(model, data, measurement="m")
    reference = pyhf.Workspace(spec).model()
    np.testing.assert_allclose(
        reference.expected_actualdata(np.asarray([values[n] for n in reference.config.par_order])),
        rows,
        rtol=1e-9,
    )


def test_abcd_refuses_what_is_none() -> None:
    with pytest.raises(ModelError, match="three control regions"):
        abcd_templates([1.0], {"B": [1.0], "C": [1.0]}, name="qcd")
    with pytest.raises(ModelError, match="region 'D' is 0, not positive"):
        abcd_templates([1.0], {"B": [1.0], "C": [1.0], "D": [0.0]}, name="qcd")
