"""The median expected upper limit."""

from __future__ import annotations

from difana.infer import expected_limits
from difana.likelihood import Model
from difana.losses.objectives.objective import Found, objective, reported


@objective("the median expected upper limit on the signal strength", logarithm=True)
def expected_limit(model: Model, *, level: float = 0.95) -> Found:
    r"""Return the median expected upper limit on the signal strength.

    It solves :math:`\sqrt{q_A(\mu)} = \Phi^{-1}(1-\alpha/2)` on background-only Asimov data, all
    nuisances profiled; differentiated by the implicit function theorem.

    Args:
        model: The model.
        level: Confidence level.

    Returns:
        The limit, and ``{"value", "status"}``.

    References:
        arXiv:1007.1727, section 4; NEOS, arXiv:2203.05570.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> def sample(name, x, **kwargs):
        ...     features = jnp.full((100, 1), x)
        ...     return Sample(Events(features, jnp.full(100, 0.5)), name=name, **kwargs)
        >>> batch = (sample("s", 1.0, normfactors=("mu",)), sample("b", 0.0))
        >>> limit, aux = expected_limit(
        ...     lambda x: x, batch, edges=jnp.array([-1.0, 0.5, 2.0]), bandwidth=0.3)
        >>> bool(limit > 0), int(aux["status"])
        (True, 0)
    """
    found = expected_limits(model, level=level, median_only=True)
    return found.median, reported(found.median, found.status)
