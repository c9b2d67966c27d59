"""The median expected upper limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, Float

from difana._typing import Network
from difana.data import Sample
from difana.infer import expected_limits
from difana.losses.objectives._model import model_of, status_aux


def expected_limit(
    net: Network,
    batch: Sequence[Sample],
    *,
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, ""] | float | None,
    level: float = 0.95,
    **options: Any,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the median expected upper limit on the signal strength.

    It solves :math:`\sqrt{q_A(\mu)} = \Phi^{-1}(1-\alpha/2)` on background-only Asimov data, all
    nuisances profiled; differentiated by the implicit function theorem.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        batch: Samples that stand for the full yields.
        edges: Bin edges in units of the first observable.
        bandwidth: Kernel width of the soft histogram; None for hard bins.
        level: Confidence level.
        **options: ``poi``, ``channel``, ``others`` (further channels), ``parameters`` and
            ``staterror``, ``relative``, ``chunk`` and ``values``, as in ``build_model`` and
            ``channel_from_events``.

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
    model = model_of(net, batch, edges=edges, bandwidth=bandwidth, **options)
    result = expected_limits(model, level=level, median_only=True)
    return result.median, status_aux(result.median, result.status)
