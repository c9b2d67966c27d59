"""The expected discovery significance."""

from __future__ import annotations

from difana.infer import significance
from difana.likelihood import Model
from difana.losses.objectives.objective import Found, objective, reported


@objective("minus the median expected discovery significance")
def discovery(model: Model, *, mu: float = 1.0) -> Found:
    r"""Return minus the median expected discovery significance, :math:`-\sqrt{q_{0,A}}`.

    All nuisances are profiled; differentiated by the envelope theorem.

    Args:
        model: The model.
        mu: Signal strength of the Asimov data.

    Returns:
        Minus the significance, and ``{"value": p0, "status"}``.

    References:
        arXiv:1007.1727, equation 53 and section 5.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> def sample(name, x, **kwargs):
        ...     return Sample(Events(jnp.full((100, 1), x), jnp.ones(100)), name=name, **kwargs)
        >>> batch = (sample("s", 1.0, normfactors=("mu",)), sample("b", 0.0))
        >>> loss, aux = discovery(
        ...     lambda x: x, batch, edges=jnp.array([-1.0, 0.5, 2.0]), bandwidth=0.3)
        >>> bool(loss < -5)
        True
    """
    found = significance(model, mu=mu)
    return -found.expected, reported(found.expected_p, found.status)
