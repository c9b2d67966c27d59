"""The log ratio of two weighted densities as a function, by one classifier."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError, ModelError
from difana.nn import MLP, Standardised, trainable
from difana.unfold._ratio import Rows, evaluate, fit_ratio
from difana.unfold.replicas import stacked_nets
from difana.unfold.settings import Settings

LogRatio = Callable[[Array], Float[Array, " events"]]


_fit = eqx.filter_jit(fit_ratio)
_evaluate = eqx.filter_jit(evaluate)


def log_ratio(
    x: Float[Array, "events columns"],
    above: Float[Array, " events"],
    below: Float[Array, " events"],
    *,
    key: Array,
    hidden: tuple[int, ...] = (64, 64),
    epochs: int = 30,
    batch_size: int | None = None,
    learning_rate: float = 2e-3,
    patience: int = 5,
    held_out: float = 0.2,
) -> LogRatio:
    r"""Return :math:`x \mapsto \ln \sum w_1 \delta(x - x_i) / \sum w_0 \delta(x - x_i)`.

    Both classes are the same rows with two weights; a row that belongs to one class only has
    weight zero in the other. The ratio is that of the yields, not of normalised densities.

    Args:
        x: Rows.
        above: Weights of the numerator; some may be negative, their total must be positive.
        below: Weights of the denominator.
        key: Random key of network, split and batches.
        hidden: Widths of the classifier.
        epochs: Largest number of epochs.
        batch_size: Rows a step; None: a 64th of the training rows, between 128 and 2048.
        learning_rate: That of Adam.
        patience: Epochs without improvement on held-out rows after which it stops.
        held_out: Fraction of held-out rows.

    Returns:
        A function of rows.

    Raises:
        InputError: If lengths differ, or a total weight is not positive.
        ModelError: If the training meets a number that is not finite.

    Example:
        >>> import jax
        >>> x = jnp.ones((4, 1))
        >>> log_ratio(x, jnp.ones(4), -jnp.ones(4), key=jax.random.key(0))
        Traceback (most recent call last):
        difana._errors.InputError: the classes have total weights of 4 and -4: ...

    References:
        arXiv:1506.02169, the ratio of two densities from a calibrated classifier.
    """
    if not len(x) == len(above) == len(below):
        raise InputError(f"{len(x)} rows, {len(above)} and {len(below)} weights: give one each")
    totals = float(jnp.sum(above)), float(jnp.sum(below))
    if not min(totals) > 0:
        raise InputError(
            f"the classes have total weights of {totals[0]:g} and {totals[1]:g}: both must be"
            " positive"
        )
    keys = jax.random.split(key, 3)
    x = x.astype(jnp.float32)
    order = jax.random.permutation(keys[0], len(x))
    count = max(1, round(held_out * len(x)))
    scaled = Standardised.fit(lambda z: z, x, jnp.abs(below) + jnp.abs(above))
    mean, std = (np.asarray(part, np.float32) for part in (scaled.mean, scaled.std))
    nets = stacked_nets(
        lambda k: Standardised(MLP(x.shape[1], hidden, activation="silu", key=k), mean, std),
        keys[1],
        1,
    )
    start, static = eqx.partition(nets, trainable(nets))
    train, held = (Rows(x[part], above[None, part], below[None, part])
                   for part in (order[count:], order[:count]))  # fmt: skip
    settings = Settings(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, patience=patience
    ).check()
    active = jnp.ones(1, bool)
    weights, report = _fit(start, static, train, held, settings, active=active, key=keys[2])
    if not bool(report.finite[0]):
        raise ModelError(
            "the classifier of two samples met a number that is not finite: lower learning_rate"
        )
    norm = float(np.log(totals[0] / totals[1]))

    def function(rows: Array) -> Array:
        return _evaluate(weights, static, rows.astype(jnp.float32))[0] + norm

    return function
