"""The expected uncertainty of the signal strength (INFERNO)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from difana._errors import ModelError
from difana._numerics import safe_sqrt
from difana.infer import Status, asimov_data, fisher_information
from difana.likelihood import Model
from difana.losses.objectives.objective import Found, objective, reported


@objective("the expected uncertainty of the signal strength (INFERNO)", logarithm=True)
def poi_uncertainty(model: Model, *, mu: float = 1.0) -> Found:
    r"""Return :math:`\sigma(\mu) = \sqrt{(I^{-1})_{\mu\mu}}` from the Fisher information.

    :math:`I` is the exact Hessian of the negative log-likelihood on Asimov data at ``mu``, so the
    nuisances are marginalised; differentiated exactly (third derivatives of the likelihood).

    Args:
        model: The model; its parameter of interest is free.
        mu: Signal strength of the Asimov data.

    Returns:
        The uncertainty, infinite where the information is singular, and ``{"value", "status"}``.

    Raises:
        ModelError: If the model holds its parameter of interest.

    References:
        INFERNO, arXiv:1806.04743, section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> events = Events(jnp.ones((16, 1)), jnp.ones(16))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)),)
        >>> sigma, _ = poi_uncertainty(lambda x: x, batch, edges=jnp.array([0.0, 2.0]),
        ...                            bandwidth=0.1, staterror=False)
        >>> round(float(sigma), 4)  # 1 / sqrt(16)
        0.25
    """
    if model.structure.fixed[model.poi_index]:
        raise ModelError(
            f"the model holds '{model.structure.poi}': its uncertainty is no objective"
        )
    information, seen = asimov_information(model, mu=mu)
    unit = jnp.zeros_like(model.init).at[model.poi_index].set(1.0)
    variance = jnp.linalg.solve(information, unit)[model.poi_index]
    good = jnp.isfinite(variance) & (variance > 0)
    sigma = safe_sqrt(jnp.where(good, variance, 1.0))
    status = jnp.where(good, seen, int(Status.INDEFINITE))
    sigma = jnp.where(good, sigma, jnp.inf)
    return sigma, reported(sigma, status)


def asimov_information(
    model: Model, *, mu: float = 1.0
) -> tuple[Float[Array, "params params"], Int[Array, ""]]:
    """Return the Fisher information on Asimov data and their status; held parameters get 1."""
    asimov = asimov_data(model, mu=mu)
    information = fisher_information(model, asimov.params, asimov.data)
    unit = jnp.eye(model.init.size, dtype=information.dtype)
    return jnp.where(both_free(model), information, unit), asimov.status


def both_free(model: Model) -> Bool[Array, "params params"]:
    """Return which pairs of parameters are free in fits."""
    free = ~model.fixed
    return free[:, None] & free[None, :]
