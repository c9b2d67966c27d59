"""INFERNO: the expected uncertainty of the signal strength in bins that the network chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample
from difana.likelihood import Channel, Parameter, build_model, channel_from_logits
from difana.losses.objectives.objective import Found
from difana.losses.objectives.poi_uncertainty import poi_uncertainty


def inferno(
    net: Network,
    batch: Sequence[Sample],
    *,
    temperature: Float[Array, ""] | float,
    nuisances: Literal["exact", "interpolated"] = "exact",
    mu: float = 1.0,
    poi: str = "mu",
    channel: str = "SR",
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    staterror: bool = True,
) -> Found:
    r"""Return :math:`\sigma(\mu)=\sqrt{(H^{-1})_{\mu\mu}}` in softmax bins, one logit a bin.

    ``H`` is the Hessian of the negative log-likelihood on Asimov data at the nominal point, so
    the nuisances are profiled:

    .. math:: H_{kl} = \sum_j \frac{1}{n_j}\frac{\partial n_j}{\partial\theta_k}
              \frac{\partial n_j}{\partial\theta_l} + \frac{\delta_{kl}}{\sigma_k^2}

    ``"exact"``: the events move with the nuisances inside the graph, and
    :math:`\partial n_j/\partial\alpha` of every `Transformation` is the derivative through the
    network. Choose a smooth activation: the slope of a ReLU jumps, and the gradient by the weights
    misses the jumps. ``"interpolated"``: templates at :math:`\alpha=\pm1`, whose half
    difference stands for the derivative. Both agree where yields are linear in the nuisance;
    variations that are no `Transformation` are always interpolated. In small batches of sharp bins
    the exact derivative rests on the few events at the borders; interpolated trains better there.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, bins]``.
        batch: Samples that stand for the full yields.
        temperature: Of the softmax, ``tau > 0``; may be annealed.
        nuisances: How the events depend on the nuisances.
        mu: Signal strength of the Asimov data.
        poi: Name of the parameter of interest.
        channel: Name of the trained channel.
        others: Further, fixed channels.
        parameters: Settings of parameters, e.g. ``Parameter("r", constraint="none")`` for a free
            nuisance, or a ``sigma`` in units of its variation.
        staterror: Include the statistical uncertainty of the simulation.

    Returns:
        The uncertainty, and ``{"value", "status"}``.

    Raises:
        InputError: If ``nuisances`` is neither of the two, or the network does not fit.

    References:
        INFERNO, arXiv:1806.04743, section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> events = Events(jnp.ones((16, 1)), jnp.ones(16))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)),)
        >>> two = lambda x: jnp.concatenate([x, -x], axis=1)
        >>> sigma, _ = inferno(two, batch, temperature=0.1, staterror=False)
        >>> round(float(sigma), 4)  # 1 / sqrt(16)
        0.25
    """
    if nuisances not in ("exact", "interpolated"):
        raise InputError(f"nuisances = '{nuisances}': choose 'exact' or 'interpolated'")
    trained = channel_from_logits(
        net,
        batch,
        temperature=temperature,
        name=channel,
        staterror=staterror,
        tangents=nuisances == "exact",
    )
    model = build_model((trained, *others), poi=poi, parameters=parameters)
    return poi_uncertainty.of_model(model, mu=mu)
