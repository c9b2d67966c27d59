"""Unfolding by a HistFactory fit: one normalisation for each truth bin."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import ConfigError, InputError
from difana._numerics import safe_sqrt
from difana.infer import FitResult, Status, fit, trustworthy
from difana.likelihood import (
    Channel,
    Correlation,
    HistoSys,
    Model,
    NormFactor,
    Parameter,
    StatError,
    Template,
    build_model,
)
from difana.unfold._linear import after_status, values_status
from difana.unfold.inversion import difference_matrix
from difana.unfold.response import Response
from difana.unfold.result import UnfoldedHistogram
from difana.unfold.status import UnfoldStatus

_RIDGE = 1e-9  # makes the penalty a proper density: its null space gets a width of 3e4


def truth_names(bins: int) -> tuple[str, ...]:
    """Return the names of the normalisations of the truth bins.

    Example:
        >>> truth_names(2)
        ('truth_0', 'truth_1')
    """
    return tuple(f"truth_{i}" for i in range(bins))


def unfolding_model(
    response: Response,
    *,
    strength: Float[Array, ""] | float | None = None,
    order: int = 2,
    variations: Mapping[str, tuple[Response, Response]] | None = None,
    bounds: tuple[float, float] = (0.0, 100.0),
) -> Model:
    r"""Return the likelihood of the detector-level data with one free factor a truth bin.

    .. math::
        \lambda_j = \sum_i \mu_i R_{ji} t_i + f_j + \gamma_j b_j, \qquad
        -2 \ln L \mathrel{+}= \tau\, \Vert L\,(\mu - 1) \Vert^2

    The factors :math:`\mu_i` are called ``truth_0``, ``truth_1``, ... (flattened bins); each truth
    bin is one sample. The background has the statistical uncertainty of its simulation, the fakes
    are fixed. The model is an ordinary ``Model``: fits, scans, impacts and limits of
    ``difana.infer`` apply to it, and ``difana.likelihood.combine`` joins it with others.

    Args:
        response: The binned problem; its numbers may be traced.
        strength: :math:`\tau` of the penalty, zero or above; None for no penalty. The penalty is a
            Gaussian constraint of all factors together.
        order: What the penalty holds small: 0 the size, 1 the slope, 2 the curvature of
            :math:`\mu`.
        variations: Binned problems at plus and minus one standard deviation, by nuisance
            parameter: response, fakes and background move together.
        bounds: Bounds of the factors.

    Returns:
        The model. Its graph does not grow with the number of bins.

    Raises:
        ConfigError: If the strength is negative or the order unknown.
        InputError: If a variation has other bins.

    Example:
        >>> import numpy as np
        >>> from difana.unfold import response, unfolding_problem
        >>> z = np.array([0.5, 1.5, 1.5])
        >>> binned = response(unfolding_problem(z, z, z), gen_edges=[0, 1, 2], reco_edges=[0, 1, 2])
        >>> model = unfolding_model(binned)
        >>> model.parameters, model.expected_main(model.init).tolist()
        (('truth_0', 'truth_1'), [1.0, 2.0])

    References:
        HistFactory: CERN-OPEN-2012-016; the method is reviewed in arXiv:1611.01927.
    """
    reco, truth = response.matrix.shape
    shifts = dict(variations or {})
    for name, pair in shifts.items():
        for side in pair:
            if side.matrix.shape != (reco, truth):
                raise InputError(
                    f"variation '{name}' has a response of shape {side.matrix.shape}, the nominal"
                    f" one {(reco, truth)}"
                )
        if name in truth_names(truth):
            raise InputError(f"variation '{name}' has the name of a truth bin: rename it")
    if strength is not None and not isinstance(strength, Tracer) and not 0 <= strength < np.inf:
        raise ConfigError(f"strength = {strength}: give a finite number, zero or positive")

    # the structure is built from constants, the numbers are put in as whole arrays
    ones = np.ones(reco)
    modifiers = tuple(HistoSys(ones, ones, name) for name in shifts)
    samples = [
        Template(ones, (NormFactor(name), *modifiers), name=name) for name in truth_names(truth)
    ]
    samples.append(Template(ones, modifiers, name="fakes"))
    variances = response.background_variances
    exact = not isinstance(variances, Tracer) and not bool(jnp.any(variances > 0))
    errors = () if exact else (StatError(ones, "staterror_reco"),)
    samples.append(Template(ones, (*errors, *modifiers), name="background"))
    width = None if strength is None else 1.0
    parameters = [Parameter(n, bounds=(bounds,), sigma=width, auxdata=width,
                            constraint="none" if width is None else "gaussian")
                  for n in truth_names(truth)]  # fmt: skip
    correlations = [] if strength is None else [Correlation(truth_names(truth), np.eye(truth))]
    model = build_model(
        [Channel(tuple(samples), name="reco")],
        poi=None,
        parameters=parameters,
        correlations=correlations,
    )
    model = eqx.tree_at(lambda m: m.nominal, model, _rows(response))
    if errors:
        model = eqx.tree_at(lambda m: m.staterror, model, safe_sqrt(variances))
    if shifts:
        ups, downs = (
            jnp.stack([_rows(pair[side]).reshape(-1, reco) for pair in shifts.values()], axis=1)
            for side in (0, 1)
        )  # [samples, variations, reco], the order of the modifiers
        model = eqx.tree_at(
            lambda m: (m.histosys_hi, m.histosys_lo), model, (ups.ravel(), downs.ravel())
        )
    if strength is not None:
        rows = difference_matrix(_shape(response), order)
        penalty = strength * jnp.asarray(rows.T @ rows) + _RIDGE * jnp.eye(truth)
        model = eqx.tree_at(lambda m: m.precision, model, penalty)
    return model


def fit_truth(
    response: Response,
    *,
    strength: Float[Array, ""] | float | None = None,
    order: int = 2,
    variations: Mapping[str, tuple[Response, Response]] | None = None,
    bounds: tuple[float, float] = (0.0, 100.0),
) -> tuple[UnfoldedHistogram, FitResult]:
    r"""Unfold by the maximum-likelihood fit of ``unfolding_model``.

    The covariance is the inverse Hessian, nuisance parameters profiled. Differentiable in the
    numbers of the responses and in ``strength`` by the implicit function theorem (the covariance
    carries no gradient).

    Args:
        response: The binned problem.
        strength: See ``unfolding_model``.
        order: See ``unfolding_model``.
        variations: See ``unfolding_model``.
        bounds: See ``unfolding_model``.

    Returns:
        The unfolded histogram, and the fit with pulls and correlations of all parameters.

    Raises:
        ConfigError: See ``unfolding_model``.
        InputError: See ``unfolding_model``; also, outside jit, if there are no counts: the
            likelihood is that of whole events, so the data must not be weighted to be negative.

    Example:
        >>> import numpy as np
        >>> from difana.unfold import response, unfolding_problem
        >>> z = np.array([0.5, 0.5, 1.5])
        >>> data = unfolding_problem(z, z, z, data_weights=[-0.5, 0.2, 3.0])
        >>> fit_truth(response(data, gen_edges=[0, 1, 2], reco_edges=[0, 1, 2]))
        Traceback (most recent call last):
        difana._errors.InputError: detector bin 0 holds negative data: ...
    """
    if not isinstance(response.data, Tracer) and bool(jnp.any(response.data < 0)):
        raise InputError(
            f"detector bin {int(jnp.argmin(response.data))} holds negative data: the likelihood is"
            " that of counted events; use bayes or invert for subtracted data"
        )
    response, status = after_status(response)
    model = unfolding_model(
        response, strength=strength, order=order, variations=variations, bounds=bounds
    )
    result = _fit(model, response.data)
    truth = len(response.prior)
    index = np.asarray([model.index(name) for name in truth_names(truth)])
    factors = result.params[index]
    covariance = result.covariance[index[:, None], index] * response.prior[:, None] * response.prior
    status = status | values_status(factors)
    status = status | jnp.where(trustworthy(result.status), 0, int(UnfoldStatus.NOT_FITTED))
    bound = (result.status & int(Status.AT_BOUND)) > 0
    status = status | jnp.where(bound, int(UnfoldStatus.AT_BOUND), 0)
    unfolded = UnfoldedHistogram(
        status=status,
        edges=response.edges,
        values=(factors * response.prior).reshape(_shape(response)),
        covariance=covariance,
        names=response.names,
    )
    return unfolded, result


@eqx.filter_jit
def _fit(model: Model, data: Array) -> FitResult:
    return fit(model, model.data(data))


def _rows(response: Response) -> Float[Array, " rows"]:
    """Return the yields of all samples: truth bins, fakes, background."""
    truth = (response.matrix * response.prior).T
    return jnp.concatenate([truth, response.fakes[None], response.background[None]]).ravel()


def _shape(response: Response) -> tuple[int, ...]:
    return tuple(len(edges) - 1 for edges in response.edges)
