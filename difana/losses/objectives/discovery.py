"""The expected discovery significance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, Float

from difana._typing import Network
from difana.data import Sample
from difana.infer import significance
from difana.losses.objectives._model import model_of, status_aux


def discovery(
    net: Network,
    batch: Sequence[Sample],
    *,
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, ""] | float | None,
    mu: float = 1.0,
    **options: Any,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return minus the median expected discovery significance, :math:`-\sqrt{q_{0,A}}`.

    All nuisances are profiled; differentiated by the envelope theorem.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        batch: Samples that stand for the full yields.
        edges: Bin edges in units of the first observable.
        bandwidth: Kernel width of the soft histogram; None for hard bins.
        mu: Signal strength of the Asimov data.
        **options: As in :func:`expected_limit`.

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
    model = model_of(net, batch, edges=edges, bandwidth=bandwidth, **options)
    result = significance(model, mu=mu)
    return -result.expected, status_aux(result.expected_p, result.status)
