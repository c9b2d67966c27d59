"""Gradients of the full sample: in chunks, from batches at full values, from running templates."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import Events, Sample, Transformation
from difana.likelihood import TemplateSums, template_sums
from difana.losses import (
    RunningSums,
    accumulated,
    full_sample_sums,
    model_of,
    running_sums,
)

EDGES, WIDTH = jnp.linspace(-1.0, 1.0, 4), 0.2


def scale(x, alpha):
    return x * (1 + 0.1 * alpha)


def net(weights):
    return lambda x: jnp.tanh(x @ weights)


def significance(sums):
    """A nonlinear function of all sums, cheaper to compile than a likelihood."""
    signal, background = sums.contents[0], sums.contents[3]
    spread = jnp.sum((sums.contents[4] - sums.contents[5]) ** 2)
    return jnp.sum(signal**2 / (background + jnp.sum(sums.squares, axis=0))) / (1 + 0.01 * spread)


@pytest.fixture(scope="module")
def problem():
    """Samples of 96 events each, weights, and a loss with gradient on any samples."""
    rng = np.random.default_rng(1)
    samples = []
    for name, centre, total in (("signal", 0.6, 30.0), ("background", -0.4, 100.0)):
        x = jnp.asarray(rng.normal(centre, 0.8, (96, 2)))
        w = rng.uniform(0.5, 1.5, 96)
        shift = Transformation(function=scale, name="scale")
        factors = ("mu",) if name == "signal" else ()
        events = Events(x, jnp.asarray(w * total / w.sum()))
        samples.append(Sample(events, (shift,), name=name, normfactors=factors))

    @eqx.filter_jit
    def loss(weights, samples, values=None, chunk=None):
        def function(own):
            sums = template_sums(net(own), samples, edges=EDGES, bandwidth=WIDTH, chunk=chunk)
            return significance(sums if values is None else sums.valued(values))

        return jax.value_and_grad(function)(weights)

    return tuple(samples), jnp.array([[0.6], [0.3]]), loss


def parts(samples, number):
    """Cut the samples; each part stands for the whole, so that the mean over parts is exact."""

    def part(sample, i):
        size = 96 // number
        own = jax.tree.map(lambda rows: rows[size * i : size * (i + 1)], sample.nominal)
        own = own.with_weights(number * own.weights)
        return eqx.tree_at(
            lambda s: (s.nominal, s.variance_scale), sample, (own, jnp.asarray(1 / number))
        )

    return [tuple(part(sample, i) for sample in samples) for i in range(number)]


def test_accumulated_is_the_gradient_of_the_full_sample(problem):
    samples, weights, loss = problem

    def sums_of(weights, piece):
        return template_sums(net(weights), piece, edges=EDGES, bandwidth=WIDTH)

    def loss_of(weights, sums):  # four parts, each of the weight of all; and a direct dependence
        return significance(jax.tree.map(lambda x: x / 4, sums)) + jnp.sum(weights**2), {"a": 1.0}

    value, slopes = loss(weights, samples)
    function = accumulated(sums_of, loss_of)
    (found, aux), gradient = function(weights, parts(samples, 4))
    assert aux == {"a": 1.0}
    assert float(found) == pytest.approx(float(value + jnp.sum(weights**2)), rel=1e-12)
    np.testing.assert_allclose(gradient, slopes + 2 * weights, rtol=1e-10)
    with pytest.raises(InputError, match="only once"):
        function(weights, (piece for piece in parts(samples, 4)))
    with pytest.raises(InputError, match="no chunks"):
        function(weights, [])


def test_a_loss_in_chunks_is_the_loss_of_the_full_sample(problem):
    samples, weights, loss = problem
    value, slopes = loss(weights, samples)
    found, gradient = loss(weights, samples, chunk=40)
    assert float(found) == pytest.approx(float(value), rel=1e-12)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-10)


def test_full_values_make_the_gradient_of_batches_unbiased(problem):
    samples, weights, loss = problem
    full = full_sample_sums(net(weights), samples, edges=EDGES, bandwidth=WIDTH, chunk=50)
    value, slopes = loss(weights, samples)
    honest = [loss(weights, part, full) for part in parts(samples, 12)]
    for found, _ in honest:
        assert float(found) == pytest.approx(float(value), rel=1e-12)
    np.testing.assert_allclose(np.mean([g for _, g in honest], axis=0), slopes, rtol=1e-9)
    plain = np.mean([loss(weights, part)[1] for part in parts(samples, 12)], axis=0)
    assert np.linalg.norm(plain - slopes) > 0.05 * np.linalg.norm(slopes)


def test_a_likelihood_loss_takes_full_values_and_chunks(problem):
    samples, weights, _ = problem

    @eqx.filter_jit
    def numbers(samples, values=None, chunk=None):
        model = model_of(
            net(weights), samples, edges=EDGES, bandwidth=WIDTH, values=values, chunk=chunk
        )
        return model.nominal, model.histosys_hi, model.staterror

    full = full_sample_sums(net(weights), samples, edges=EDGES, bandwidth=WIDTH, chunk=None)
    reference = numbers(samples)
    for found in (numbers(parts(samples, 4)[0], full), numbers(samples, chunk=50)):
        for ours, theirs in zip(found, reference, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_full_sample_sums_are_constants(problem):
    samples, weights, _ = problem

    def total(weights, bandwidth):
        sums = full_sample_sums(net(weights), samples, edges=EDGES, bandwidth=bandwidth)
        return jnp.sum(sums.contents**2)

    for slope in jax.grad(total, argnums=(0, 1))(weights, 0.2):
        np.testing.assert_array_equal(slope, np.zeros_like(slope))


def test_running_sums_are_the_weighted_mean_of_the_past():
    def of(value):
        return TemplateSums(jnp.full((2, 3), value), jnp.full((1, 3), value**2))

    memory = RunningSums.start(jax.eval_shape(lambda: of(1.0)))
    past = [3.0, 7.0, 4.0, 5.0]
    for last, value in enumerate(past):
        used, memory = running_sums(memory, of(value), decay=0.7)
        shares = 0.7 ** np.arange(last, -1, -1.0)
        mean = np.average(past[: last + 1], weights=shares)
        np.testing.assert_allclose(used.contents, np.full((2, 3), mean), rtol=1e-12)
    slope = jax.grad(lambda x: running_sums(memory, of(x))[0].contents[0, 0])(2.0)
    assert float(slope) == 1.0
    with pytest.raises(InputError, match="decay is 1"):
        running_sums(memory, of(1.0), decay=1.0)


def test_a_reference_has_no_derivatives():
    own = TemplateSums(jnp.array([[2.0]]), jnp.array([[1.0]]))

    def used(x):
        reference = TemplateSums(jnp.array([[x]]), jnp.array([[1.0]]))
        return own.valued(reference).contents[0, 0]

    value, slope = jax.value_and_grad(used)(3.0)
    assert (float(value), float(slope)) == (3.0, 0.0)
