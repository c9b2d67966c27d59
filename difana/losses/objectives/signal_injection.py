"""What an analysis would find if the signal were there."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from difana._errors import ConfigError
from difana._numerics import safe_sqrt
from difana.infer import asimov_data, q0, upper_limit
from difana.likelihood import Model
from difana.losses.objectives.objective import Found, objective, reported
from difana.losses.objectives.poi_uncertainty import poi_uncertainty

Quantity = Literal["significance", "limit", "uncertainty"]
_QUANTITIES = ("significance", "limit", "uncertainty")


@objective("what an analysis expects of data with a signal in them")
def signal_injection(
    model: Model, *, mu: float = 1.0, quantity: Quantity = "significance"
) -> Found:
    r"""Return the expected result of an analysis of data with a signal of strength ``mu``.

    - ``"significance"``: minus the significance :math:`-\sqrt{q_0}` of the injected signal.
    - ``"limit"``: logarithm of the upper limit (95 % CLs) that such data set: how far above the
      truth an analysis still allows. It exceeds ``mu``.
    - ``"uncertainty"``: logarithm of :math:`\sigma(\mu)` there.

    All nuisances are profiled; differentiated by the envelope and implicit function theorems.

    Args:
        model: The model.
        mu: Injected signal strength.
        quantity: What to optimise.

    Returns:
        The number to minimise, and ``{"value": the quantity itself, "status"}``.

    Raises:
        ConfigError: If the quantity is unknown.

    References:
        arXiv:1007.1727, sections 3 and 5.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> events = Events(jnp.ones((16, 1)), jnp.ones(16))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)),)
        >>> _, aux = signal_injection(lambda x: x, batch, edges=jnp.array([0.0, 2.0]), mu=4.0,
        ...     bandwidth=0.1, staterror=False, quantity="uncertainty")
        >>> round(float(aux["value"]), 4)  # sqrt(4 / 16)
        0.5
    """
    value, status = _injected(model, mu, quantity)
    loss = -value if quantity == "significance" else jnp.log(value)
    return loss, reported(value, status)


def _injected(model: Model, mu: float, quantity: Quantity) -> tuple[Array, Array]:
    """Return the quantity that a model expects with an injected signal, and its status."""
    if quantity not in _QUANTITIES:
        raise ConfigError(f"signal injection: quantity '{quantity}' is none of {_QUANTITIES}")
    if quantity == "uncertainty":
        sigma, aux = poi_uncertainty.of_model(model, mu=mu)
        return sigma, aux["status"]
    asimov = asimov_data(model, mu=mu)
    if quantity == "significance":
        found = q0(model, asimov.data)
        return safe_sqrt(found.value), asimov.status | found.status
    limit = upper_limit(model, asimov.data)
    assert limit.observed is not None
    return limit.observed, asimov.status | limit.status
