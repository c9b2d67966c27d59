"""The expected CLs of a tested signal strength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from difana._numerics import safe_sqrt
from difana._typing import Network
from difana.data import Sample
from difana.infer import hypotest
from difana.losses.objectives._model import model_of, status_aux


def expected_cls(
    net: Network,
    batch: Sequence[Sample],
    *,
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, ""] | float | None,
    mu: float = 1.0,
    **options: Any,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the logarithm of the median expected CLs (the loss of NEOS).

    :math:`\ln CL_s = \ln\{2[1-\Phi(\sqrt{q_A(\mu)})]\}`. The logarithm has the same minimum and a
    useful gradient where CLs is tiny. Differentiated by the envelope theorem.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        batch: Samples that stand for the full yields.
        edges: Bin edges in units of the first observable.
        bandwidth: Kernel width of the soft histogram; None for hard bins.
        mu: Tested signal strength.
        **options: As in :func:`expected_limit`.

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
    model = model_of(net, batch, edges=edges, bandwidth=bandwidth, **options)
    result = hypotest(model, mu=mu)
    loss = log_ndtr(-safe_sqrt(result.q_asimov)) + jnp.log(2.0)
    return loss, status_aux(jnp.exp(loss), result.status)
