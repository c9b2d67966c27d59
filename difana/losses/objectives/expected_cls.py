"""The expected CLs of a tested signal strength."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from difana._numerics import safe_sqrt
from difana.infer import hypotest
from difana.likelihood import Model
from difana.losses.objectives.objective import Found, objective, reported


@objective("the logarithm of the median expected CLs of a signal strength (NEOS)")
def expected_cls(model: Model, *, mu: float = 1.0) -> Found:
    r"""Return the logarithm of the median expected CLs (the loss of NEOS).

    :math:`\ln CL_s = \ln\{2[1-\Phi(\sqrt{q_A(\mu)})]\}`. The logarithm has the same minimum and a
    useful gradient where CLs is tiny. Differentiated by the envelope theorem.

    Args:
        model: The model.
        mu: Tested signal strength.

    Returns:
        ln CLs, and ``{"value": CLs, "status"}``.

    References:
        NEOS, arXiv:2203.05570, section 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> def sample(name, x, **kwargs):
        ...     return Sample(Events(jnp.full((100, 1), x), jnp.ones(100)), name=name, **kwargs)
        >>> batch = (sample("s", 1.0, normfactors=("mu",)), sample("b", 0.0))
        >>> loss, aux = expected_cls(
        ...     lambda x: x, batch, edges=jnp.array([-1.0, 0.5, 2.0]), bandwidth=0.3)
        >>> bool(jnp.isclose(jnp.exp(loss), aux["value"]))
        True
    """
    found = hypotest(model, mu=mu)
    loss = log_ndtr(-safe_sqrt(found.q_asimov)) + jnp.log(2.0)
    return loss, reported(jnp.exp(loss), found.status)
