"""The ratio of two weighted densities from classifiers."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from difana._result import AbstractResult
from difana.ratio.classify import Classes
from difana.ratio.fit_ratios import MakeNet, fit_ratios
from difana.ratio.log_ratio import LogRatio
from difana.ratio.rows import RatioRows, checked_rows
from difana.train import Training, TrainStatus


class RatioResult(AbstractResult):
    """A learned ratio and how it was learned.

    Attributes:
        log_ratio: The function of rows.
        loss: Lowest held-out loss, mean over the members.
        epochs: Largest number of epochs of a member.
        held: Which rows were held out, ``[rows]``: those for a calibration.
        status: Bits of `difana.train.TrainStatus`.
    """

    bits = TrainStatus

    log_ratio: LogRatio
    loss: Float[Array, ""]
    epochs: Int[Array, ""]
    held: Bool[Array, " rows"]
    status: Int[Array, ""]


def fit_ratio(
    rows: RatioRows,
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    net: MakeNet | None = None,
    hidden: Sequence[int] = (64, 64),
    members: int = 1,
    cap: float | None = None,
) -> RatioResult:
    r"""Learn :math:`x \mapsto \ln \sum w_1 \delta(x - x_i) / \sum w_0 \delta(x - x_i)`.

    The logit of a classifier of the two classes, of equal total weight, is the log ratio of the
    densities; the ratio of the totals is added, so that it is one of yields. With ``members`` the
    mean of their ratios is taken: all are trained at once, in one program.

    *Negative weights* stand in the loss as they are: its expectation then is that of the signed
    densities, as long as both are positive everywhere; single rows of negative weight do no harm,
    regions of negative density do. For these see ``fit_signed_ratio``.

    Args:
        rows: The rows, see ``two_samples``.
        key: Random key of networks, split and batches.
        training: Options of the training.
        net: Function ``key -> net``; a net maps ``[rows, ...]`` to one logit a row. None makes an
            MLP on standardised columns.
        hidden: Its widths.
        members: Number of classifiers.
        cap: Largest distance of the log ratio from that of the totals; None for no cap.

    Returns:
        The ratio. Its gradient with respect to rows is exact.

    Raises:
        InputError: If lengths differ, a number is not finite, or a total weight is not positive.
        ConfigError: If an option has no meaning.
        ModelError: If the training meets a number that is not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.random.normal(jax.random.key(0), (4000, 1))
        >>> rows = RatioRows(x, 2 * jnp.exp(0.5 * x[:, 0] - 0.125), jnp.ones(4000))
        >>> training = Training(epochs=8, learning_rate=2e-2)
        >>> found = fit_ratio(rows, key=jax.random.key(1), training=training, hidden=(8,))
        >>> bool(abs(found.log_ratio(jnp.array([[0.25]]))[0] - jnp.log(2.0)) < 0.1)
        True

    References:
        arXiv:1506.02169.
    """
    rows = checked_rows(rows)
    classes = Classes(rows.x, rows.above[None], rows.below[None])
    found = fit_ratios(
        classes, key=key, training=training, net=net, hidden=hidden, members=members, cap=cap
    )  # fmt: skip
    return RatioResult(
        found.log_ratios.one(0), found.loss[0], found.epochs[0], found.held, found.status[0]
    )
