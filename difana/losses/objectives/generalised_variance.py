"""The generalised variance: the volume of the region that a measurement leaves."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import InputError
from difana._status import flag
from difana.infer import Status
from difana.likelihood import Model
from difana.losses.objectives.objective import Found, objective, reported
from difana.losses.objectives.poi_uncertainty import asimov_information, both_free


@objective("the logarithm of the determinant of the covariance of chosen parameters")
def generalised_variance(
    model: Model, *, of: Sequence[str] | None = None, mu: float = 1.0
) -> Found:
    r"""Return the logarithm of the determinant of the covariance of chosen parameters.

    .. math:: L = \ln\det C_{PP}, \qquad C = I^{-1}

    All other nuisances are marginalised (their rows are removed from the *covariance*, not from
    the information). For one parameter it is twice the logarithm of its uncertainty.
    Differentiated exactly (third derivatives of the likelihood).

    Args:
        model: The model.
        of: Names of the parameters :math:`P`; the one of interest by default.
        mu: Value of the parameter of interest in the Asimov data.

    Returns:
        The logarithm, and ``{"value": determinant, "status"}``.

    Raises:
        InputError: If no parameter is chosen; ModelError if one does not exist.

    References:
        S. S. Wilks, Biometrika 24 (1932) 471.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> events = Events(jnp.ones((16, 1)), jnp.ones(16))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)),)
        >>> _, aux = generalised_variance(lambda x: x, batch, edges=jnp.array([0.0, 2.0]),
        ...                               bandwidth=0.1, staterror=False)
        >>> round(float(aux["value"]), 4)  # 1 / 16
        0.0625
    """
    if of is not None and not of:
        raise InputError("the generalised variance needs at least one parameter")
    chosen = np.asarray([model.poi_index] if of is None else [model.index(name) for name in of])
    covariance, status = asimov_covariance(model, mu=mu)
    sign, value = jnp.linalg.slogdet(covariance[np.ix_(chosen, chosen)])
    good = (sign > 0) & jnp.isfinite(value)
    value = jnp.where(good, value, jnp.inf)
    return value, reported(jnp.exp(value), status | flag(~good, Status.INDEFINITE))


def asimov_covariance(
    model: Model, *, mu: float = 1.0
) -> tuple[Float[Array, "params params"], Int[Array, ""]]:
    r"""Return the expected covariance :math:`I^{-1}` of all parameters, and its status.

    :math:`I` is the Hessian of the negative log-likelihood on Asimov data at ``mu``; held
    parameters have no variance.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([4.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> jax.jit(asimov_covariance)(model)[0].tolist()
        [[0.25]]
    """
    information, status = asimov_information(model, mu=mu)
    covariance = jnp.linalg.inv(information)
    variances = jnp.diagonal(covariance)
    good = jnp.all(jnp.isfinite(covariance)) & jnp.all(variances > 0)
    covariance = jnp.where(good, jnp.where(both_free(model), covariance, 0.0), jnp.inf)
    return covariance, status | jnp.where(good, 0, int(Status.INDEFINITE))
