"""The model as a PyTree: traced numbers, static structure, one graph of fixed size."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from scipy import stats
from scipy.special import xlogy

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
    code4,
    code4p,
    from_workspace,
    to_workspace,
    with_yields,
)

# every number that an analysis may trace
NUMBERS = {
    "signal": np.array([12.0, 11.0]),
    "background": np.array([50.0, 42.0]),
    "control": np.array([90.0, 80.0]),
    "hi": np.array([55.0, 41.0]),
    "lo": np.array([46.0, 47.0]),
    "norm": np.array([1.15, 0.9]),
    "stat": np.array([3.0, 2.0]),
    "unc": np.array([6.0, 4.0]),
    "lumi": np.array([1.01, 0.03]),
}


def build(n):
    signal = Template(
        n["signal"],
        (NormFactor("mu"), Lumi(), NormSys(1.1, n["norm"][1], "norm")),
        name="signal",
    )
    background = Template(
        n["background"],
        (
            HistoSys(n["hi"], n["lo"], "shape"),
            NormSys(n["norm"][0], n["norm"][1], "norm"),
            StatError(n["stat"], "stat"),
        ),
        name="background",
    )
    control = Template(
        n["control"],
        (ShapeSys(n["unc"], "unc"), ShapeFactor("free"), NormSys(0.9, n["norm"][0], "shape")),
        name="background",
    )
    lumi = Parameter("lumi", auxdata=n["lumi"][0], sigma=n["lumi"][1])
    channels = [Channel((signal, background), name="SR"), Channel((control,), name="CR")]
    return build_model(channels, parameters=[lumi])


def density(numbers, params, observed):
    model = build(numbers)
    return model.logpdf(params, model.data(observed))


PARAMS = jnp.array([1.3, 1.05, 0.4, -1.6, 1.1, 0.93, 1.2, 0.9, 1.05, 0.97])
OBSERVED = jnp.array([60.0, 49.0, 95.0, 78.0])


def test_parameters_stand_in_order_of_appearance():
    model = build(NUMBERS)
    assert model.parameters == (
        *("mu", "lumi", "norm", "shape", "stat[0]", "stat[1]"),
        *("unc[0]", "unc[1]", "free[0]", "free[1]"),
    )
    assert model.poi_index == 0
    assert model.slice_of("CR") == slice(2, 4)
    np.testing.assert_array_equal(model.init[:4], [1.0, 1.01, 0.0, 0.0])
    packed = model.pack({"shape": 0.5, "free[1]": 2.0})
    assert float(model.unpack(packed)["free[1]"]) == 2.0
    assert float(packed[model.index("shape")]) == 0.5


def test_built_inside_jit_gradient_is_that_of_finite_differences(finite_difference):
    numbers = jax.tree.map(jnp.asarray, NUMBERS)
    value = jax.jit(density)
    eager = build(NUMBERS)
    np.testing.assert_allclose(
        value(numbers, PARAMS, OBSERVED),
        eager.logpdf(PARAMS, eager.data(OBSERVED)),
        rtol=1e-13,
    )
    gradient = jax.jit(jax.grad(density, argnums=(0, 1, 2)))(numbers, PARAMS, OBSERVED)
    for name in numbers:
        reference = finite_difference(
            lambda x, name=name: value(numbers | {name: x}, PARAMS, OBSERVED), numbers[name]
        )
        np.testing.assert_allclose(gradient[0][name], reference, rtol=1e-6, atol=1e-8, err_msg=name)
    reference = finite_difference(lambda p: value(numbers, p, OBSERVED), PARAMS)
    np.testing.assert_allclose(gradient[1], reference, rtol=1e-6)
    reference = finite_difference(lambda d: value(numbers, PARAMS, d), OBSERVED)
    np.testing.assert_allclose(gradient[2], reference, rtol=1e-6)


def test_vmap_over_models_and_parameters_is_a_loop():
    scales = jnp.array([0.5, 1.0, 2.0])

    def scaled(scale, params):
        return density(NUMBERS | {"signal": scale * NUMBERS["signal"]}, params, OBSERVED)

    params = PARAMS[None] + jnp.linspace(0.0, 0.1, 3)[:, None]
    many = jax.jit(jax.vmap(scaled))(scales, params)
    one = jax.jit(scaled)
    np.testing.assert_allclose(many, [one(s, p) for s, p in zip(scales, params, strict=True)])


def test_same_structure_is_compiled_once():
    traces = 0

    @eqx.filter_jit
    def evaluate(model, params):
        nonlocal traces
        traces += 1
        return jnp.sum(model.expected(params))

    models = [build(NUMBERS), build(NUMBERS | {"signal": np.array([1.0, 2.0])})]
    models += [with_yields(models[0], {("SR", "signal"): [4.0, 5.0]})]
    assert len({model.structure for model in models}) == 1
    assert len({float(evaluate(model, PARAMS)) for model in models}) == 3
    assert traces == 1
    other = build_model([Channel((Template([5.0], (NormFactor("mu"),), name="s"),), name="SR")])
    assert other.structure != models[0].structure
    evaluate(other, other.init)
    assert traces == 2


def equations(jaxpr) -> int:
    """Count the equations of a program and of its inner programs."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    total += equations(inner)
    return total


@pytest.mark.parametrize("transform", [lambda f: f, jax.grad, jax.hessian])
def test_graph_size_does_not_grow_with_the_number_of_systematics(transform):
    def size(number):
        shifts = tuple(
            modifier
            for i in range(number)
            for modifier in (
                NormSys(1.1, 0.9, f"norm{i}"),
                HistoSys([11.0, 21.0], [9.0, 19.0], f"shape{i}"),
            )
        )
        channels = [
            Channel(
                (
                    Template([5.0, 6.0], (NormFactor("mu"), *shifts), name="s"),
                    Template([10.0, 20.0], (*shifts, StatError([1.0, 2.0], f"st{c}")), name="b"),
                    Template([8.0, 9.0], (ShapeSys([1.0, 2.0], f"u{c}"),), name="c"),
                ),
                name=f"c{c}",
            )
            for c in range(number)
        ]
        model = build_model(channels)
        data = jnp.ones(model.bins + model.structure.constrained.size)
        return equations(jax.make_jaxpr(transform(lambda p: model.logpdf(p, data)))(model.init))

    assert size(2) == size(20)


def test_with_yields_is_a_rebuilt_model():
    other = NUMBERS | {"signal": np.array([3.0, 4.5]), "control": np.array([70.0, 71.0])}
    changed = with_yields(
        build(NUMBERS),
        {("SR", "signal"): other["signal"], ("CR", "background"): other["control"]},
    )
    for ours, theirs in zip(*map(jax.tree.leaves, (changed, build(other))), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_with_yields_is_differentiable():
    model = build(NUMBERS)

    def total(scale):
        return jnp.sum(with_yields(model, {("SR", "signal"): scale * NUMBERS["signal"]}).nominal)

    assert float(jax.jit(jax.grad(total))(1.0)) == 23.0


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_numbers_of_other_types_are_taken_at_full_precision(dtype):
    numbers = jax.tree.map(jnp.asarray, NUMBERS)
    model = build(numbers | {"background": jnp.array([50, 42], dtype)})
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype(float)}
    np.testing.assert_array_equal(model.nominal, build(NUMBERS).nominal)
    changed = with_yields(model, {("SR", "signal"): [1.5, 2.5]})
    np.testing.assert_array_equal(changed.nominal[:2], [1.5, 2.5])
    np.testing.assert_array_equal(model.data(jnp.array([1, 2, 3, 4]))[:4], [1.0, 2, 3, 4])


@pytest.mark.parametrize(
    ("signal", "background", "observed"),
    [
        ([0.0, 5.0], [0.0, 4.0], [0.0, 3.0]),
        ([0.0, 5.0], [0.0, 4.0], [2.0, 0.0]),
        ([-1.0, 5.0], [0.5, 4.0], [1.0, 3.0]),
        ([0.0, 0.0], [-3.0, 0.0], [1.0, 0.0]),
        ([1e-30, 1e8], [1e-30, 1e8], [0.0, 1e9]),
    ],
)
def test_empty_and_negative_bins_stay_finite(signal, background, observed):
    numbers = NUMBERS | {
        "signal": jnp.array(signal),
        "background": jnp.array(background),
        "hi": jnp.array(background),
        "lo": jnp.zeros(2),
        "control": jnp.array([0.0, -2.0]),
    }
    data = jnp.array([*observed, 0.0, 3.0])
    value, gradient = VALUE_AND_GRADIENT(numbers, PARAMS, data)
    assert np.isfinite(value)
    model = build(numbers)
    rates = np.asarray(model.expected_main(jnp.asarray(PARAMS)))
    # below 1e-10 the logarithm of the rate goes on along its tangent
    tail = np.log(1e-10) + (rates - 1e-10) / 1e-10
    logs = np.where(rates > 1e-10, np.log(np.maximum(rates, 1e-300)), tail)
    counts = np.asarray(data)
    terms = rates - counts - counts * logs + xlogy(counts, counts)
    found = model.bin_terms(jnp.asarray(PARAMS), model.data(data))
    scale = 1e-9 * np.maximum(counts, 1)  # of the terms that cancel
    assert np.all(np.abs(found - terms) <= scale + 1e-9 * np.abs(terms))
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    assert np.isfinite(HESSIAN(numbers, PARAMS, data)).all()


VALUE_AND_GRADIENT = jax.jit(jax.value_and_grad(density, argnums=(0, 1)))
HESSIAN = jax.jit(jax.hessian(density, argnums=1))


def test_parameters_without_width_are_held():
    model = build(NUMBERS | {"stat": [0.0, 2.0], "unc": [6.0, 0.0], "background": [50.0, 0.0]})
    held = [name for name, flag in zip(model.parameters, model.fixed, strict=True) if flag]
    assert held == ["stat[0]", "stat[1]", "unc[1]"]


def test_density_is_the_product_of_scipy_densities():
    from scipy import stats

    model = build(NUMBERS)
    data = model.data(OBSERVED)
    rates = model.expected_main(PARAMS)
    expected = stats.poisson.logpmf(OBSERVED, rates).sum()
    expected += stats.norm.logpdf(1.01, PARAMS[1], 0.03)
    expected += stats.norm.logpdf(0.0, PARAMS[2:4], 1.0).sum()
    expected += stats.norm.logpdf(1.0, PARAMS[4:6], NUMBERS["stat"] / NUMBERS["background"]).sum()
    tau = (NUMBERS["control"] / NUMBERS["unc"]) ** 2
    # auxiliary counts need not be whole numbers
    mean = np.asarray(PARAMS[6:8]) * tau
    expected += np.sum(tau * np.log(mean) - mean - jax.scipy.special.gammaln(tau + 1))
    np.testing.assert_allclose(model.logpdf(PARAMS, data), expected, rtol=1e-12)
    np.testing.assert_allclose(model.nll(PARAMS, data), -expected, rtol=1e-12)
    np.testing.assert_allclose(model.expected_auxiliary(PARAMS)[-2:], mean, rtol=1e-12)


ALPHAS = np.array([-3.0, -1.0 - 1e-9, -1.0, -1.0 + 1e-9, -0.3, 0.0, 0.7, 1.0 - 1e-9, 1.0, 2.5])


@pytest.mark.parametrize(("lo", "hi"), [(0.9, 1.2), (1.1, 0.8), (1.05, 1.3), (0.5, 0.6)])
def test_interpolation_is_that_of_pyhf(lo, hi):
    template = np.array([[[[lo], [1.0], [hi]]]])
    ours = code4(jnp.asarray(ALPHAS), jnp.full(10, lo), jnp.full(10, hi))
    theirs = pyhf.interpolators.code4(template)(ALPHAS[None])
    np.testing.assert_allclose(ours, np.ravel(theirs), rtol=1e-12)
    ours = code4p(jnp.asarray(ALPHAS), jnp.full(10, 1.0 - lo), jnp.full(10, hi - 1.0))
    theirs = pyhf.interpolators.code4p(template)(ALPHAS[None])
    np.testing.assert_allclose(ours, np.ravel(theirs), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("border", [-1.0, 1.0])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_interpolation_is_smooth_at_one_standard_deviation(border, order):
    functions = (
        lambda a: code4(a[None], jnp.array([0.9]), jnp.array([1.2]))[0],
        lambda a: code4p(a[None], jnp.array([3.0]), jnp.array([5.0]))[0],
    )
    for function in functions:
        for _ in range(order):
            function = jax.grad(function)
        inside, outside = (function(jnp.asarray(border * (1 + s))) for s in (-1e-10, 1e-10))
        np.testing.assert_allclose(inside, outside, atol=1e-7)


def test_staterror_of_one_name_in_two_channels_is_two_in_pyhf(reference):
    def sample(name, values, kind, data):
        modifiers = [{"name": {"staterror": "stat"}.get(kind, "mu"), "type": kind, "data": data}]
        return {"name": name, "data": values, "modifiers": modifiers}

    def channel(name, values, errors):
        samples = [
            sample("b", values, "staterror", errors),
            sample("s", [5.0, 6.0], "normfactor", None),
        ]
        return {"name": name, "samples": samples}

    spec = {
        "channels": [
            channel("A", [50.0, 60.0], [5.0, 6.0]),
            channel("B", [40.0, 70.0], [2.0, 9.0]),
        ],
        "observations": [{"name": name, "data": [50.0, 60.0]} for name in "AB"],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }
    model, data = from_workspace(spec)
    assert model.parameters[:3] == ("stat_A[0]", "stat_A[1]", "mu")
    theirs = reference(spec)
    params = jnp.array([1.1, 0.9, 1.3, 1.05, 0.95])  # A, mu, B
    order = [theirs.model.config.par_names.index(f"stat[{i}]") for i in range(4)]
    point = np.full(5, 1.3)
    point[order] = np.asarray(params)[[0, 1, 3, 4]]
    np.testing.assert_allclose(
        model.logpdf(params, data), theirs.model.logpdf(point, theirs.observed)[0], rtol=1e-10
    )
    again, _ = from_workspace(to_workspace(model, data))
    assert again.parameters == model.parameters


@pytest.mark.parametrize("relative", [1e-3, 1e-5, 1e-7, 1e-9])
def test_tiny_uncertainties_keep_likelihood_ratios_exact(relative):
    # 1e-9 stands for 1e18 auxiliary counts: logarithms of 1e19 that cancel
    model = build(NUMBERS | {"unc": NUMBERS["control"] * relative})
    data = model.data(OBSERVED)
    pulls = jnp.array([1.5, -0.5])
    index = np.array([model.index("unc[0]"), model.index("unc[1]")])
    moved = PARAMS.at[index].set(1.0 + pulls * relative)
    start = PARAMS.at[index].set(1.0)
    ratio = model.logpdf(moved, data) - model.logpdf(start, data)
    main = OBSERVED * jnp.log(model.expected_main(moved) / model.expected_main(start))
    main = jnp.sum(main - model.expected_main(moved) + model.expected_main(start))
    # tau (log(1 + x) - x) with x = pull / sqrt(tau)
    exact = jnp.sum(-(pulls**2) / 2 + pulls**3 * relative / 3 - pulls**4 * relative**2 / 4)
    # a parameter near 1 resolves a pull only to its rounding
    np.testing.assert_allclose(ratio - main, exact, atol=2e-9 + 1e-15 / relative)


@pytest.mark.parametrize("yields", [(60.0, -10.0), (-10.0, 60.0)])
def test_statistical_errors_are_relative_to_the_sum_of_signed_yields(yields):
    """A sample of negative weights lowers the yield, and adds its variance."""
    templates = tuple(
        Template([value], (StatError([width], "stat"),), name=name)
        for name, value, width in zip("ab", yields, (3.0, 4.0), strict=True)
    )
    signal = Template([5.0], (NormFactor("mu"),), name="s")
    model = build_model([Channel((signal, *templates), name="SR")])
    widths, _ = model.constraint_scales()
    assert widths.tolist() == pytest.approx([5.0 / 50.0])


def test_shifts_of_code_2_are_parabolic_inside_and_go_on_along_the_tangent():
    """Up 10, down 4 to the same side: half sum 3, half difference 7."""
    template = Template([100.0], (HistoSys([110.0], [104.0], "a"),), name="b")
    signal = Template([5.0], (NormFactor("mu"),), name="s")
    model = build_model(
        [Channel((signal, template), name="SR")], interpolation={"histosys": "code2"}
    )
    for alpha in (-3.0, -1.0, -0.4, 0.0, 0.7, 1.0, 2.5):
        parabola, slope = lambda x: 7 * x**2 + 3 * x, lambda x: 14 * x + 3
        edge = np.clip(alpha, -1, 1)
        exact = 100 + parabola(edge) + slope(edge) * (alpha - edge)
        found = model.expected_main(model.pack({"mu": 0.0, "a": alpha}))
        assert float(found[0]) == pytest.approx(exact, rel=1e-12)


def test_constants_of_few_and_many_counts_are_those_of_scipy():
    """The factorial of many counts is a series."""
    yields = np.array([0.5, 99.0, 103.0, 400.0, 2e5])
    counts = np.array([0.0, 100.0, 101.0, 430.0, 2.01e5])
    signal = Template(yields, (NormFactor("mu"),), name="s")
    model = build_model([Channel((signal,), name="SR")])
    exact = stats.poisson.logpmf(counts, yields).sum()
    found = model.logpdf(model.pack({"mu": 1.0}), model.data(counts))
    assert float(found) == pytest.approx(exact, rel=1e-11)


def test_traced_templates_beside_lists_of_numbers():
    def expected(signal):
        background = Template([50.0, 52.0], (StatError([3.0, 4.0], "stat"),), name="b")
        other = Template([5.0, 6.0], (HistoSys([6.0, 7.0], [4.0, 5.0], "tilt"),), name="o")
        tilt = HistoSys(1.1 * signal, 0.9 * signal, "tilt")
        moved = Template(signal, (NormFactor("mu"), tilt), name="s")
        model = build_model([Channel((moved, background, other), name="SR")])
        return model.expected_main(model.init)

    signal = jnp.array([5.0, 6.0])
    np.testing.assert_allclose(jax.jit(expected)(signal), [60.0, 64.0])
    np.testing.assert_allclose(jax.jacobian(expected)(signal), np.eye(2))
