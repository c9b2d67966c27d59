"""The ratios of many replicas, trained in one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from difana._errors import InputError, ModelError
from difana._options import real_number, whole_number
from difana._result import AbstractResult
from difana._typing import PyTree
from difana.nn import MLP, Standardised
from difana.ratio.classify import Classes, ClassifyReport, classify
from difana.ratio.log_ratio import LogRatios, single
from difana.ratio.stacked import stacked_nets
from difana.train import Training, TrainStatus

MakeNet = Callable[[Array], PyTree]


class RatiosResult(AbstractResult):
    """Learned ratios of many replicas and how they were learned.

    Attributes:
        log_ratios: The functions of rows.
        loss: Lowest held-out loss of each replica, mean over its members.
        epochs: Largest number of epochs of a member.
        held: Which rows were held out: those for a calibration.
        status: Bits of `difana.train.TrainStatus` of each replica.
    """

    bits = TrainStatus

    log_ratios: LogRatios
    loss: Float[Array, " replicas"]
    epochs: Int[Array, " replicas"]
    held: Bool[Array, " rows"]
    status: Int[Array, " replicas"]


def fit_ratios(
    classes: Classes,
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    net: MakeNet | None = None,
    hidden: Sequence[int] = (64, 64),
    members: int = 1,
    cap: float | None = None,
    chunk: int | None = None,
) -> RatiosResult:
    """Learn the ratio of numerator and denominator for many sets of weights on the same rows.

    All classifiers are trained in one program, each with early stopping of its own; they share the
    held-out rows and the order of the batches, and start from networks of their own.

    Args:
        classes: The rows and the weights of each replica (without ``level``).
        key: Random key of networks, split and batches.
        training: Options of the training.
        net: Function ``key -> net``; a net maps ``[rows, ...]`` to one logit a row. None makes an
            MLP on standardised columns.
        hidden: Its widths.
        members: Classifiers of each replica.
        cap: Largest distance of a log ratio from that of its totals; None for no cap.
        chunk: Replicas trained side by side; the result does not depend on it.

    Returns:
        The ratios.

    Raises:
        InputError: If a total weight is not positive, or a table is needed.
        ConfigError: If an option has no meaning.
        ModelError: If a training meets a number that is not finite.
    """
    members = whole_number("members", members)
    if cap is not None:
        real_number("cap", cap, above=0)
    totals = [np.asarray(jnp.sum(part, axis=1)) for part in (classes.above, classes.below)]
    if not (np.min(totals) > 0):
        raise InputError(
            f"the classes have total weights of {totals[0].min():g} and {totals[1].min():g}: both"
            " must be positive"
        )
    keys = jax.random.split(key, 3)
    classes = classes._replace(x=single(classes.x))
    (train, held), chosen = _halves(classes, keys[0], training)
    make = _make(net, classes, hidden)
    nets = stacked_nets(make, keys[1], len(classes.above), ensemble=members)
    nets, report = _program(nets, train, held, keys[2], training, members, chunk)
    if not bool(jnp.all(report.finite)):
        raise ModelError(
            "the classifier of two samples met a number that is not finite: lower learning_rate"
        )
    norms = jnp.asarray(np.log(totals[0] / totals[1]))
    log = LogRatios(nets, norms, members=members, cap=cap)
    return RatiosResult(log, report.loss, report.epochs, chosen, report.status)


@eqx.filter_jit
def _program(
    nets: PyTree, train: Classes, held: Classes, key: Array, training: Training, members: int,
    chunk: int | None,
) -> tuple[PyTree, ClassifyReport]:  # fmt: skip
    return classify(nets, train, held, key=key, training=training, members=members, chunk=chunk)


def _halves(
    classes: Classes, key: Array, training: Training
) -> tuple[tuple[Classes, Classes], Bool[Array, " rows"]]:
    """Return training and held-out rows, and which are held out."""
    number = classes.above.shape[1]
    order = jax.random.permutation(key, number)
    count = max(1, round(training.held_out * number))

    def take(part: Array) -> Classes:
        x = jax.tree.map(lambda leaf: leaf[part], classes.x)
        return Classes(x, classes.above[:, part], classes.below[:, part])

    held = jnp.zeros(number, bool).at[order[:count]].set(True)
    return (take(order[count:]), take(order[:count])), held


def _make(net: MakeNet | None, classes: Classes, hidden: Sequence[int]) -> MakeNet:
    """Return a function ``key -> net``: the one given, or that of an MLP on scaled columns."""
    if net is not None:
        return net
    x = classes.x
    if not eqx.is_array(x) or x.ndim != 2:
        raise InputError("give net: without one the rows must be a table [rows, columns]")
    # one standardisation for all replicas
    weights = jnp.sum(jnp.abs(classes.below) + jnp.abs(classes.above), axis=0)
    scaled = Standardised.fit(lambda z: z, x, weights)
    mean, std = (np.asarray(part, np.float32) for part in (scaled.mean, scaled.std))
    return lambda key: Standardised(
        MLP(x.shape[1], list(hidden), activation="silu", key=key), mean, std
    )
