"""Ratios of densities that negative weights make negative somewhere: a ratio of signed mixtures."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from difana._errors import InputError
from difana._result import AbstractResult
from difana._typing import PyTree
from difana.ratio.classify import Classes
from difana.ratio.fit_ratios import MakeNet, fit_ratios
from difana.ratio.log_ratio import LogRatios
from difana.ratio.rows import RatioRows, checked_rows
from difana.train import Training, TrainStatus

_PARTS = ("numerator_plus", "numerator_minus", "denominator_minus")


class SignedRatio(eqx.Module):
    r"""The ratio of two signed densities, which may be negative itself.

    .. math::
        r(x) = \frac{r_{1+}(x) - r_{1-}(x)}{1 - r_{0-}(x)}, \qquad
        r_k(x) = \frac{\sum_{i \in k} |w_i| \delta(x - x_i)}{\sum_{i \in 0+} w_i \delta(x - x_i)}

    Attributes:
        log_ratios: Log ratio of each part to the positive denominator.
        parts: Names of the parts (static); one without rows is not there.
    """

    log_ratios: LogRatios
    parts: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, x: PyTree) -> Float[Array, " rows"]:
        """Return the ratio of rows; not its logarithm, as it may be negative."""
        found = dict(zip(self.parts, jnp.exp(self.log_ratios(x)), strict=True))
        nothing = jnp.zeros(())
        plus, one, two = (found.get(name, nothing) for name in _PARTS)
        return (plus - one) / (1 - two)


class SignedRatioResult(AbstractResult):
    """A learned ratio of signed densities.

    Attributes:
        ratio: The function of rows.
        loss: Lowest held-out loss of the classifier of each part, in the order of ``ratio.parts``.
        epochs: Epochs trained, of each part.
        status: Bits of `difana.train.TrainStatus`, of each part.
    """

    bits = TrainStatus

    ratio: SignedRatio
    loss: Float[Array, " parts"]
    epochs: Int[Array, " parts"]
    status: Int[Array, " parts"]


def fit_signed_ratio(
    rows: RatioRows,
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    net: MakeNet | None = None,
    hidden: Sequence[int] = (64, 64),
    members: int = 1,
    cap: float | None = None,
) -> SignedRatioResult:
    r"""Learn the ratio of two densities with weights of both signs.

    Each class is split by the sign of its weights. The positive and the negative part of the
    numerator and the negative part of the denominator get classifiers of their own against the
    positive part of the denominator: all have positive weights, so that every loss has a minimum,
    also where the signed density is negative. The classifiers are trained side by side in one
    program on the same rows. Where no weight is negative this is ``fit_ratio``.

    Args:
        rows: The rows; weights of both signs.
        key: Random key of networks, split and batches.
        training: Options of the training.
        net: Function ``key -> net``; None makes an MLP on standardised columns.
        hidden: Its widths.
        members: Classifiers of each part.
        cap: Largest distance of each log ratio from that of its totals; None for no cap.

    Returns:
        The ratio.

    Raises:
        InputError: If lengths differ, a number is not finite, or numerator or denominator have no
            positive weights.
        ConfigError: If an option has no meaning.
        ModelError: If a training meets a number that is not finite.

    References:
        arXiv:2410.10216 (ratio of signed mixtures).
    """
    rows = checked_rows(rows)
    weights: dict[str, Array] = dict(zip(_PARTS, (
        jnp.maximum(rows.above, 0), jnp.maximum(-rows.above, 0), jnp.maximum(-rows.below, 0)
    ), strict=True))  # fmt: skip
    reference = jnp.maximum(rows.below, 0)
    totals = {name: float(jnp.sum(part)) for name, part in weights.items()}
    if not totals["numerator_plus"] > 0 or not float(jnp.sum(reference)) > 0:
        raise InputError(
            f"positive weights of the numerator have a total of {totals['numerator_plus']:g}, those"
            f" of the denominator {float(jnp.sum(reference)):g}: both must be positive"
        )
    names = tuple(name for name in _PARTS if totals[name] > 0)
    above = jnp.stack([weights[name] for name in names])
    found = fit_ratios(
        Classes(rows.x, above, jnp.broadcast_to(reference, above.shape)), key=key,
        training=training, net=net, hidden=hidden, members=members, cap=cap,
    )  # fmt: skip
    ratio = SignedRatio(found.log_ratios, names)
    return SignedRatioResult(ratio, found.loss, found.epochs, found.status)
