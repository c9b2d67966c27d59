"""The statistics of the final model: fit, yields with uncertainties, limits, scan."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana.analysis.inference import CLs, Inference, Limits, Significance
from difana.infer import FitResult
from difana.likelihood import Model

SCAN_POINTS = 31


class Scan(eqx.Module):
    """CLs against the parameter of interest.

    Attributes:
        mu: Tested values.
        observed: Observed CLs; None without data.
        expected: Expected CLs, ``[points, 5]``.
    """

    mu: Float[np.ndarray, " points"]
    observed: Float[np.ndarray, " points"] | None
    expected: Float[np.ndarray, "points 5"]


@dataclasses.dataclass(frozen=True)
class Observed:
    """What real data say.

    Attributes:
        limits: Observed upper limit, and expected ones with nuisances fitted to the data.
        cls: CLs of ``mu = 1``, the same.
        significance: Observed significance, and the expected one.
    """

    limits: Limits
    cls: CLs
    significance: Significance


class Yields(eqx.Module):
    """Expected yields of all templates and the uncertainty of their sum.

    Attributes:
        rows: Yields of every template and bin.
        errors: Standard deviation of the total of every bin, correlations included.
    """

    rows: Float[Array, " rows"]
    errors: Float[Array, " bins"]


@dataclasses.dataclass(frozen=True)
class Final:
    """All numbers of the final model.

    Attributes:
        fit: The best fit to the data.
        prefit: Yields without signal, nuisances at their starting values.
        postfit: Yields of the best fit.
        unit: Yields of every template and bin at unit signal strength.
        scan: CLs against the parameter of interest.
        observed: What the data say; None without real data.
    """

    fit: FitResult
    prefit: Yields
    postfit: Yields
    unit: Float[Array, " rows"]
    scan: Scan
    observed: Observed | None


def final_statistics(model: Model, data: Float[Array, " data"], *, top: float, real: bool) -> Final:
    """Return fit, yields, scan and, for real data, observed limits.

    Args:
        model: The model.
        data: Observed events, or background-only Asimov data.
        top: Largest value of the scan.
        real: Whether the data are real.
    """
    best = Inference(model, data).best
    inference = Inference(model, data if real else None)
    mu = np.linspace(0.0, top, SCAN_POINTS)
    tests = [inference.cls(value) for value in mu]
    scan = Scan(
        mu,
        np.array([test.observed for test in tests]) if real else None,
        np.array([test.expected for test in tests]),
    )
    observed = None
    if real:
        observed = Observed(inference.limits(), inference.cls(1.0), inference.significance())
    prefit, postfit, unit = _all_yields(model, best.params, best.covariance)
    return Final(best, prefit, postfit, unit, scan, observed)


# compiled whole: one by one, the operations of a model cost seconds of compilation


@jax.jit
def asimov_vector(model: Model) -> Float[Array, " data"]:
    """Return background-only Asimov data."""
    return model.expected(model.init.at[model.poi_index].set(0.0))


@jax.jit
def data_vector(model: Model, observed: Float[Array, " bins"]) -> Float[Array, " data"]:
    """Return observed yields and auxiliary data."""
    return model.data(observed)


def prior_variances(model: Model) -> Float[Array, " params"]:
    """Return the variance of each parameter before the fit; zero for free and held ones.

    Example:
        >>> from difana.likelihood import Channel, NormSys, Template, build_model
        >>> sample = Template([4.0], (NormSys(1.1, 0.9, "norm"),), name="b")
        >>> prior_variances(build_model([Channel((sample,), name="SR")], poi=None)).tolist()
        [1.0]
    """
    widths, tau = model.constraint_scales()
    poisson = model.structure.poisson
    variances = jnp.where(poisson, 1 / tau, widths**2)
    found = jnp.zeros_like(model.init).at[model.structure.constrained].set(variances)
    return jnp.where(model.fixed, 0.0, found)


@jax.jit
def _all_yields(model: Model, best: Array, covariance: Array) -> tuple[Yields, Yields, Array]:
    """Return yields before and after the fit, and those of unit signal."""
    start = model.init.at[model.poi_index].set(0.0)
    params = jnp.stack([start, best])
    covariances = jnp.stack([jnp.diag(prior_variances(model)), covariance])
    both = jax.vmap(lambda p, c: _yields(model, p, c))(params, covariances)
    prefit, postfit = (jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in (0, 1))
    return prefit, postfit, model.rows(model.init.at[model.poi_index].set(1.0))


def _yields(model: Model, params: Array, covariance: Array) -> Yields:
    jacobian = jax.jacfwd(model.expected_main)(params)
    variances = jnp.einsum("bi,ij,bj->b", jacobian, covariance, jacobian)
    return Yields(model.rows(params), jnp.sqrt(jnp.maximum(variances, 0.0)))
