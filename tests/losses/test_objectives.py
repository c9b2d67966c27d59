"""Objectives: closed forms, gradients against differences, one program for many points."""

from __future__ import annotations

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from difana._errors import ConfigError, InputError
from difana.data import Events, Sample, Transformation
from difana.infer import Status
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
    build_model,
)
from difana.losses import (
    OBJECTIVES,
    ModelOptions,
    generalised_variance,
    grid_limits,
    minimum_events,
    postfit_widths,
    signal_grid,
    signal_injection,
    stack_points,
    stacked_models,
    weighted_sum,
)
from difana.losses import model_of as single
from difana.losses.objectives.objective import BatchOptions
from difana.nn import MLP, Parametrised

SIGNAL, BACKGROUND = np.array([3.0, 6.0, 12.0]), np.array([120.0, 60.0, 30.0])


def model_of(signal=SIGNAL, background=BACKGROUND):
    shifted = background * np.array([1.05, 1.0, 0.93])
    other = background * np.array([0.96, 1.01, 1.06])
    templates = (
        Template(signal, (NormFactor("mu"), NormSys(1.05, 0.95, "lumi")), name="s"),
        Template(
            background,
            (
                HistoSys(shifted, other, "scale"),
                NormSys(1.05, 0.95, "lumi"),
                StatError([4.0, 3.0, 2.0], "stat"),
            ),
            name="b",
        ),
    )
    return build_model([Channel(templates, name="SR")])


@pytest.fixture(scope="module")
def model():
    return model_of(jnp.asarray(SIGNAL), jnp.asarray(BACKGROUND))


HI, LO = BACKGROUND * np.array([1.05, 1.0, 0.93]), BACKGROUND * np.array([0.96, 1.01, 1.06])


@pytest.fixture(scope="module")
def shape_only():
    b = Template(jnp.asarray(BACKGROUND), (HistoSys(HI, LO, "scale"),), name="b")
    s = Template(jnp.asarray(SIGNAL), (NormFactor("mu"),), name="s")
    return build_model([Channel((s, b), name="SR")])


@pytest.fixture(scope="module")
def widths():
    """What the covariance tells, and the gradient of its sum: one program for all tests."""

    def objectives(model):
        pair = generalised_variance.of_model(model, of=("mu", "scale"), mu=1.0)[0]
        width = postfit_widths(model, ["scale"], mu=1.0)[0]
        return pair + width, (pair, width)

    return eqx.filter_jit(eqx.filter_value_and_grad(objectives, has_aux=True))


@pytest.fixture(scope="module")
def fits():
    """What needs fits, likewise."""

    def objectives(model):
        stacked = jax.tree.map(lambda x: jnp.stack([x, x]), model)
        scale = jnp.array([[1.0], [1.2]])
        stacked = eqx.tree_at(lambda m: m.nominal, stacked, stacked.nominal * scale)
        values = (
            signal_injection.of_model(model, mu=1.0, quantity="significance")[1]["value"],
            signal_injection.of_model(model, mu=1.0, quantity="limit")[1]["value"],
            jnp.log(grid_limits(stacked)[0]).mean(),
        )
        return values[0] + 2 * values[1] + values[2], values

    return eqx.filter_jit(eqx.filter_value_and_grad(objectives, has_aux=True))


def deviance(n, mu, s=SIGNAL, b=BACKGROUND):
    """Twice the likelihood ratio of data n."""
    return 2 * np.sum(mu * s + b - n + n * np.log(n / (mu * s + b)))


def expected_limit(s, b):
    target = norm.isf(0.025)
    return brentq(lambda mu: np.sqrt(deviance(b, mu, s, b)) - target, 1e-3, 100)


def without_effect(model):
    """The model whose nuisances do nothing: everything is a function of a few numbers."""
    return eqx.tree_at(
        lambda m: (m.histosys_hi, m.histosys_lo, m.normsys_hi, m.normsys_lo, m.staterror),
        model,
        (*[jnp.asarray(BACKGROUND)] * 2, jnp.ones(2), jnp.ones(2), jnp.zeros(3)),
    )


def test_covariance(shape_only, widths):
    (_, (pair, width)), _ = widths(shape_only)
    slopes = np.stack([SIGNAL, 0.5 * (HI - LO)])
    covariance = np.linalg.inv(slopes / (SIGNAL + BACKGROUND) @ slopes.T + np.diag([0.0, 1.0]))
    assert float(pair) == pytest.approx(np.log(np.linalg.det(covariance)), rel=1e-10)
    assert float(width) == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-10)


@pytest.mark.slow
def test_fits(model, fits):
    (_, values), _ = fits(without_effect(model))
    both = SIGNAL + BACKGROUND
    z = np.sqrt(2 * np.sum(both * np.log(both / BACKGROUND) - SIGNAL))

    def log_cls(mu):  # the best fit is 1, below the tested value
        root, root_asimov = np.sqrt(deviance(both, mu)), np.sqrt(deviance(BACKGROUND, mu))
        return np.log(norm.sf(root) / norm.sf(root - root_asimov) / 0.05)

    limit = brentq(log_cls, 1.01, 20)
    grid = [expected_limit(SIGNAL * x, BACKGROUND * x) for x in (1.0, 1.2)]
    np.testing.assert_allclose(values, [z, limit, np.log(grid).mean()], rtol=1e-7)


def check_gradients(model, compiled, names):
    _, gradient = compiled(model)
    generator = np.random.default_rng(1)
    for name in names:
        numbers = getattr(model, name)
        direction = generator.normal(size=numbers.shape) * np.asarray(numbers) / 100

        def at(step, name=name, numbers=numbers, direction=direction):
            moved = eqx.tree_at(lambda m: getattr(m, name), model, numbers + step * direction)
            return float(compiled(moved)[0][0])

        numeric = (at(1e-3) - at(-1e-3)) / 2e-3
        own = float(jnp.sum(getattr(gradient, name) * direction))
        assert own == pytest.approx(numeric, rel=2e-5, abs=1e-9), name


def test_gradients_of_the_covariance(shape_only, widths):
    check_gradients(shape_only, widths, ("nominal", "histosys_hi"))


@pytest.mark.slow
def test_gradients_of_fits(model, fits):
    check_gradients(model, fits, ("nominal", "histosys_hi", "normsys_hi", "staterror"))


def test_a_parameter_without_influence_is_reported():
    s = Template([5.0], (NormFactor("mu"),), name="s")
    b = Template([50.0], (NormFactor("norm"),), name="b")
    model = build_model([Channel((s, b), name="SR")])
    value, aux = eqx.filter_jit(generalised_variance.of_model)(model)
    assert not np.isfinite(float(value))
    assert int(aux["status"]) & int(Status.INDEFINITE)


def mass_points(count=3, events=60):
    keys = jax.random.split(jax.random.key(1), count + 1)

    def shift(features, alpha):
        return features + 0.1 * alpha

    def sample(name, centre, total, key, **options):
        features = centre + jax.random.normal(key, (events, 1))
        drawn = Events(features, jnp.full(events, total / events), columns=("x",))
        return Sample(drawn, (Transformation(function=shift, name="shift"),), name=name, **options)

    points = [sample(f"m{i}", 1.0 + i, 20.0, keys[i], normfactors=("mu",)) for i in range(count)]
    background = sample("b", 0.0, 100.0, keys[-1])
    return (*points[:2], background, *points[2:])


def test_stacked_points_are_the_single_ones():
    batch = mass_points()
    net = MLP(2, (4,), 1, param_dtype=jnp.float64, key=jax.random.key(0))
    theta = jnp.array([[1.0], [2.0], [3.0]])
    edges = jnp.stack([jnp.linspace(-1, 1, 5) + 0.1 * i for i in range(3)])

    @jax.jit
    def both(net, theta):
        _, background = stack_points(batch)
        points = [sample for sample in batch if sample.normfactors]
        alone = [
            single(Parametrised(net, theta[i]), (p, *background), edges=edges[i], bandwidth=0.1)
            for i, p in enumerate(points)
        ]
        return stacked_models(net, batch, edges=edges, bandwidth=0.1, theta=theta), alone

    models, alone = both(net, theta)
    for i, own in enumerate(alone):
        for a, b in zip(jax.tree.leaves(models), jax.tree.leaves(own), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-12)


def test_weights_of_the_points():
    batch = [eqx.tree_at(lambda s: s.variations, sample, ()) for sample in mass_points()]
    edges = jnp.linspace(-3, 6, 5)
    value, aux = jax.jit(
        lambda weights: signal_grid(
            lambda x: x, batch, weights=weights, edges=edges, bandwidth=None, staterror=False
        )
    )(jnp.array([1.0, 0.0, 3.0]))
    yields = {
        s.name: np.histogram(np.clip(s.nominal["x"], -3, 6), edges, weights=s.nominal.weights)[0]
        for s in batch
    }
    limits = [expected_limit(yields[f"m{i}"], yields["b"] + 1e-12) for i in (0, 2)]
    assert float(value) == pytest.approx((np.log(limits) @ [1.0, 3.0]) / 4, rel=1e-6)
    assert float(aux["value"]) == pytest.approx(np.exp(float(value)), rel=1e-12)
    assert int(aux["status"]) == 0


def test_points_that_cannot_be_stacked():
    batch = mass_points()
    with pytest.raises(InputError, match="'m1'"):
        stack_points([batch[0], mass_points(events=7)[1]])
    with pytest.raises(InputError, match="no signal point"):
        stack_points([batch[2]])
    with pytest.raises(InputError, match="2 rows for 3"):
        signal_grid(
            lambda x: x, batch, edges=jnp.array([0.0, 1.0]), bandwidth=0.1, theta=jnp.ones((2, 1))
        )


def test_weighted_sum():
    terms = {
        "sum": lambda x: (jnp.sum(x), {"status": jnp.asarray(0)}),
        "most": lambda x: (jnp.max(x), {}),
    }
    x = jnp.array([1.0, 4.0])
    value, aux = weighted_sum(terms, {"sum": 0.5, "most": 2.0})(x)
    assert float(value) == 10.5
    assert sorted(aux) == ["most", "sum", "sum/status"]
    with pytest.raises(ConfigError, match="Did you mean 'most'"):
        weighted_sum(terms, {"sum": 0.5, "mos": 2.0})
    with pytest.raises(ConfigError, match="'most' has no weight"):
        weighted_sum(terms, {"sum": 0.5})
    with pytest.raises(ConfigError, match="at least one"):
        weighted_sum({}, {})


def test_unknown_quantity(model):
    with pytest.raises(ConfigError, match="none of"):
        signal_injection.of_model(model, quantity="power")


@pytest.mark.parametrize("of", [("mu",), ("stat[0]",), ("mu", "stat[0]")])
def test_other_parameters_are_marginalised_not_held(of):
    """One bin, one Gaussian uncertainty: the covariance of both parameters in closed form."""
    s, b, sigma = 10.0, 50.0, 4.0
    signal = Template([s], (NormFactor("mu"),), name="s")
    background = Template([b], (StatError([sigma], "stat"),), name="b")
    model = build_model([Channel((signal, background), name="SR")])
    covariance = np.array(
        [
            [(s + b + sigma**2) / s**2, -(sigma**2) / (s * b)],
            [-(sigma**2) / (s * b), (sigma / b) ** 2],
        ]
    )
    chosen = [("mu", "stat[0]").index(name) for name in of]
    value, aux = generalised_variance.of_model(model, of=of)
    assert int(aux["status"]) == 0
    exact = np.linalg.det(covariance[np.ix_(chosen, chosen)])
    assert float(value) == pytest.approx(np.log(exact), rel=1e-10)


def test_the_penalty_against_empty_bins_counts_effective_background_events():
    """Bins of 16, 4 and no effective events at a threshold of 8; the signal does not count."""
    signal = Template([9.0, 9.0, 9.0], (NormFactor("mu"), StatError([9.0] * 3, "st")), name="s")
    first = Template([30.0, 3.0, 0.0], (StatError([6.0, 1.5, 0.0], "st"),), name="a")
    other = Template([10.0, 1.0, 0.0], (StatError([8.0, 2.0, 0.0], "st"),), name="b")
    exact = sum(max(0.0, 1 - n / 8) ** 2 for n in (40**2 / 100, 4**2 / 6.25, 0.0))
    channel = Channel((signal, first, other), name="SR")
    assert float(minimum_events(channel, threshold=8.0)) == pytest.approx(exact, rel=1e-12)
    # with another parameter of interest all samples are background
    assert float(minimum_events(channel, poi="k", threshold=1.0)) == pytest.approx(0.0)


def test_typed_options_are_those_of_the_functions():
    """What pyright knows of the batch versions is what they take."""
    given = inspect.signature(single).parameters
    options = {**ModelOptions.__annotations__}
    assert set(given) == {"net", "batch", "edges", "bandwidth", "values", *options}
    for name, hint in options.items():
        assert hint.__forward_arg__ == given[name].annotation, name
    rows = [set(row.options) for row in OBJECTIVES.values()]
    assert set(BatchOptions.__annotations__) == {"values", *options}.union(*rows)
