"""Adversarial decorrelation: a classifier whose output says nothing about the nuisances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import ConfigError
from difana._typing import Network
from difana.data import Sample
from difana.losses.classify.augmented import entropy_of, logits_of
from difana.losses.classify.random_nuisances import Draw, at_random_nuisances
from difana.losses.gradient_reversal import reverse_gradient
from difana.losses.step import Step

Adversary = Literal["regressor", "mixture"]


class Pivot(eqx.Module):
    """The two players, trained together.

    Attributes:
        net: The classifier, any callable PyTree.
        adversary: A network from the sigmoid of the classifier ``[events, 1]`` to what
            :func:`adversary_outputs` says.
    """

    net: Network
    adversary: Network


def adversary_outputs(kind: Adversary, *, nuisances: int, components: int = 5) -> int:
    """Return the number of outputs that an adversary needs.

    Raises:
        ConfigError: If the kind is unknown.

    Example:
        >>> adversary_outputs("regressor", nuisances=2), adversary_outputs("mixture", nuisances=1)
        (2, 15)
    """
    if kind == "regressor":
        return nuisances
    if kind == "mixture":
        return components * (1 + 2 * nuisances)
    raise ConfigError(f"adversary '{kind}' is neither 'regressor' nor 'mixture'")


def squared_error(
    outputs: Float[Array, "events nuisances"], nuisances: Float[Array, "events nuisances"]
) -> Float[Array, " events"]:
    """Return the mean squared error of a regressor, event by event.

    Example:
        >>> squared_error(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])).tolist()
        [2.5]
    """
    return jnp.mean((outputs - nuisances) ** 2, axis=1)


def mixture_nll(
    outputs: Float[Array, "events outputs"], nuisances: Float[Array, "events nuisances"]
) -> Float[Array, " events"]:
    r"""Return the negative log-density of the nuisances in a mixture of Gaussians.

    .. math:: -\ln \sum_k \mathrm{softmax}(a)_k \prod_j N(\nu_j; m_{kj}, \sigma_{kj})

    The outputs hold :math:`a_k`, then :math:`m_{kj}`, then the inverse softplus of
    :math:`\sigma_{kj} - 0.01`.

    Example:
        >>> outputs = jnp.array([[0.0, 1.0, 0.526]])  # one Gaussian at 1, width 1
        >>> round(float(mixture_nll(outputs, jnp.array([[1.0]]))[0]), 2)  # ln sqrt(2 pi)
        0.92
    """
    events, size = nuisances.shape
    components = outputs.shape[1] // (1 + 2 * size)
    logits = outputs[:, :components]
    means, widths = jnp.split(outputs[:, components:], 2, axis=1)
    means = means.reshape(events, components, size)
    widths = jax.nn.softplus(widths.reshape(events, components, size)) + 0.01
    pulls = (nuisances[:, None, :] - means) / widths
    logs = -0.5 * pulls**2 - jnp.log(widths) - 0.5 * jnp.log(2 * jnp.pi)
    return -jax.nn.logsumexp(jax.nn.log_softmax(logits, axis=1) + logs.sum(axis=2), axis=1)


_LOSSES: dict[str, Callable[..., Array]] = {"regressor": squared_error, "mixture": mixture_nll}


def adversarial(
    state: Pivot | Any,
    batch: Sequence[Sample],
    step: Step,
    *,
    adversary: Adversary = "mixture",
    strength: Float[Array, ""] | float = 1.0,
    on: Literal["all", "background"] = "all",
    draw: Draw = jax.random.normal,
    poi: str = "mu",
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return cross-entropy plus the loss of an adversary that guesses the nuisances.

    .. math:: \min_f \max_r\; L_{CE}(f) - \lambda L_r(r(\sigma(f(x))), \nu)

    The adversary descends on :math:`L_r`; a gradient reversal of scale :math:`\lambda` between
    the two makes the classifier ascend on it, so one optimizer trains both. With a regressor
    the *mean* of the nuisance given the output is made constant, with a mixture its whole density
    ("learning to pivot").

    Args:
        state: A :class:`Pivot`.
        batch: Samples that stand for the full yields.
        step: The step, whose key is used; outside of a training ``Step.at(key=...)``.
        adversary: ``"regressor"`` (squared error) or ``"mixture"`` (density of a mixture).
        strength: The factor :math:`\lambda`, may be annealed.
        on: Decorrelate ``"all"`` events or the ``"background"`` alone.
        draw: Draws the values; the prior by default.
        poi: Free factor that marks the signal.

    Returns:
        The sum :math:`L_{CE} + L_r` (which does not fall: a game), and
        ``{"value": cross-entropy, "adversary"}``.

    Raises:
        ConfigError: If the kind of adversary is unknown.
        InputError: As :func:`at_random_nuisances`.

    References:
        G. Louppe, M. Kagan, K. Cranmer, arXiv:1611.01046; Y. Ganin, V. Lempitsky,
        arXiv:1409.7495.

    Example:
        >>> from difana.data import Events, Transformation
        >>> shift = Transformation(function=lambda x, alpha: x + alpha, name="shift")
        >>> events = Events(jnp.zeros((4, 1)), jnp.ones(4))
        >>> batch = (Sample(events, (shift,), name="s", normfactors=("mu",)),
        ...          Sample(events, (shift,), name="b"))
        >>> state = Pivot(lambda x: 0 * x, lambda y: 0 * y)
        >>> _, aux = adversarial(
        ...     state, batch, Step.at(key=jax.random.key(0)), adversary="regressor")
        >>> round(float(aux["value"]), 4)  # ln 2
        0.6931
    """
    if adversary not in _LOSSES:
        raise ConfigError(f"adversary '{adversary}' is neither 'regressor' nor 'mixture'")
    blocks = at_random_nuisances(batch, key=step.key, draw=draw, poi=poi)
    logits = logits_of(state.net, [block.inputs for block in blocks])
    entropy = entropy_of(blocks, logits)
    chosen = [i for i, block in enumerate(blocks) if on == "all" or not block.signal]
    seen = jax.nn.sigmoid(jnp.concatenate([logits[i] for i in chosen]))[:, None]
    nuisances = jnp.concatenate([blocks[i].nuisances for i in chosen])
    guess = state.adversary(reverse_gradient(seen, scale=strength))
    # both classes count the same, whatever their yields
    shares = [blocks[i].weights / jnp.sum(blocks[i].weights) for i in chosen]
    weights = jnp.concatenate(shares) / len(chosen)
    opposed = jnp.sum(weights * _LOSSES[adversary](guess, nuisances))
    return entropy + opposed, {"value": entropy, "adversary": opposed}
