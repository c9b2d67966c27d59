"""Two small models, and all results of a model from one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

from difana.infer import fit, hypotest, significance, upper_limit
from difana.likelihood import (
    Channel,
    HistoSys,
    Lumi,
    Model,
    NormFactor,
    NormSys,
    Parameter,
    ShapeFactor,
    ShapeSys,
    StatError,
    Template,
    build_model,
)


def everything(model: Model, observed: jnp.ndarray) -> dict[str, Any]:
    """Return every result of room 5."""
    data = model.data(observed)
    return {
        "fit": fit(model, data),
        "cls": hypotest(model, data, mu=1.0),
        "limit": upper_limit(model, data),
        "significance": significance(model, data),
    }


def uncorrelated(signal: Any, background: Any, uncertainty: Any) -> Model:
    """Return signal and background with an uncorrelated uncertainty; numbers may be traced."""
    signal, background, uncertainty = map(jnp.asarray, (signal, background, uncertainty))
    samples = (
        Template(signal, (NormFactor("mu"),), name="signal"),
        Template(background, (ShapeSys(uncertainty, "unc"),), name="background"),
    )
    return build_model([Channel(samples, name="SR")])


def rich_model() -> Model:
    """Return a model with all seven modifiers and one parameter held at 1.1."""
    stat = "stat_SR"
    signal = Template(
        [12.0, 9.0, 5.0],
        (NormFactor("mu"), Lumi(), NormSys(1.1, 0.92, "norm"), StatError([1.0, 0.9, 0.5], stat)),
        name="signal",
    )
    ttbar = Template(
        [50.0, 40.0, 30.0],
        (
            NormSys(1.2, 0.85, "norm"),
            HistoSys([55.0, 41.0, 27.0], [46.0, 38.0, 32.0], "shape"),
            StatError([3.0, 2.0, 1.5], stat),
        ),
        name="ttbar",
    )
    fakes = Template(
        [9.0, 6.0, 5.0], (ShapeSys([3.0, 2.0, 1.5], "rate"), NormFactor("k")), name="fakes"
    )
    qcd = Template([8.0, 6.0, 4.0], (ShapeFactor("free"),), name="qcd")
    control = (
        Template([40.0, 30.0, 20.0], (ShapeFactor("free"),), name="qcd"),
        Template([10.0, 8.0, 6.0], (NormSys(1.1, 0.9, "shape"), Lumi()), name="ttbar"),
    )
    return build_model(
        [Channel((signal, ttbar, fakes, qcd), name="SR"), Channel(control, name="CR")],
        parameters=[
            Parameter("lumi", auxdata=1.0, sigma=0.03),
            Parameter("k", init=1.1, fixed=True),
        ],
    )


@pytest.fixture(scope="session")
def rich() -> SimpleNamespace:
    """The rich model, data with a small excess, and data with a deficit."""
    excess = jnp.array([83.0, 63.0, 45.0, 52.0, 37.0, 28.0])
    deficit = jnp.array([63.0, 52.0, 33.0, 52.0, 37.0, 28.0])
    return SimpleNamespace(model=rich_model(), excess=excess, deficit=deficit)


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., dict[str, Any]]:
    """Compiled: every result of a model and observed yields."""
    return eqx.filter_jit(everything)


@pytest.fixture(scope="session")
def counting(evaluate) -> Callable[..., dict[str, Any]]:
    """``counting(signal, background, uncertainty, observed)``: every result of two bins.

    Scalars stand for one bin: a second one without signal or uncertainty changes nothing. All
    calls share one compiled program.
    """
    compiled = eqx.filter_jit(lambda s, b, u, n: everything(uncorrelated(s, b, u), n))

    def run(*numbers: Any) -> dict[str, Any]:
        if np.ndim(numbers[0]) == 0:
            numbers = tuple(
                np.array([x, rest]) for x, rest in zip(numbers, (0.0, 1.0, 0.0, 1.0), strict=True)
            )
        return compiled(*(jnp.asarray(x, float) for x in numbers))

    return run


@pytest.fixture(scope="session")
def two_bins() -> Callable[..., Model]:
    return uncorrelated


@pytest.fixture
def exact_pyhf() -> Iterator[Any]:
    """pyhf with a tolerance at which its minima are exact; by default CLs is good to 1e-5."""
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-14))
    yield pyhf
    pyhf.set_backend(*before)
