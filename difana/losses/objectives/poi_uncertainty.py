"""The expected uncertainty of the signal strength (INFERNO)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from difana._numerics import safe_sqrt
from difana._typing import Network
from difana.data import Sample
from difana.infer import Status, asimov_data, fisher_information
from difana.likelihood import Model
from difana.losses.objectives._model import model_of, status_aux


def poi_uncertainty(
    net: Network,
    batch: Sequence[Sample],
    *,
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, ""] | float | None,
    mu: float = 1.0,
    **options: Any,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return :math:`\sigma(\mu) = \sqrt{(I^{-1})_{\mu\mu}}` from the Fisher information.

    :math:`I` is the exact Hessian of the negative log-likelihood on Asimov data at ``mu``, so the
    nuisances are marginalised; differentiated exactly (third derivatives of the likelihood).

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        batch: Samples that stand for the full yields.
        edges: Bin edges in units of the first observable.
        bandwidth: Kernel width of the soft histogram; None for hard bins.
        mu: Signal strength of the Asimov data.
        **options: As in :func:`expected_limit`.

    Returns:
        The uncertainty, and ``{"value", "status"}``.

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
    model = model_of(net, batch, edges=edges, bandwidth=bandwidth, **options)
    sigma, status = sigma_of(model, mu=mu)
    return sigma, status_aux(sigma, status)


def sigma_of(model: Model, *, mu: float = 1.0) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Return sigma(mu) of a model and its status; infinite where the information is singular."""
    information, seen = asimov_information(model, mu=mu)
    unit = jnp.zeros_like(model.init).at[model.poi_index].set(1.0)
    variance = jnp.linalg.solve(information, unit)[model.poi_index]
    good = jnp.isfinite(variance) & (variance > 0)
    sigma = safe_sqrt(jnp.where(good, variance, 1.0))
    status = jnp.where(good, seen, int(Status.INDEFINITE))
    return jnp.where(good, sigma, jnp.inf), status


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
