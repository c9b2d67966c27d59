"""Log ratios of two densities as functions of the rows: one, or those of many replicas."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._typing import PyTree
from difana.nn import trainable
from difana.ratio.calibration import Isotonic, Temperature
from difana.ratio.stacked import evaluate, log_mean


class LogRatio(eqx.Module):
    r"""Rows to :math:`\ln` of the ratio of two yields at each of them.

    The ratio is the mean of those of the members; its logarithm is calibrated, where a calibration
    was fitted, and its distance from that of the total yields is capped last.

    Attributes:
        nets: Stacked classifiers.
        log_norm: Log of the ratio of the total yields.
        calibration: Monotone function of the log ratio of normalised densities; None for none.
        members: Number of classifiers (static).
        cap: Largest distance from ``log_norm`` (static); None for no cap.
    """

    nets: PyTree
    log_norm: Float[Array, ""]
    calibration: Isotonic | Temperature | None = None
    members: int = eqx.field(static=True, default=1)
    cap: float | None = eqx.field(static=True, default=None)

    def __call__(self, x: PyTree) -> Float[Array, " rows"]:
        """Return the log ratio of rows ``[rows, ...]``."""
        shape = log_mean(_evaluate(self.nets, single(x)), self.members)[0]
        if self.calibration is not None:
            shape = self.calibration(shape)
        return _capped(shape, self.cap) + self.log_norm

    def each(self, x: PyTree) -> Float[Array, "members rows"]:
        """Return the log ratio of each member, not calibrated: their spread is that of training."""
        return _evaluate(self.nets, single(x)) + self.log_norm


class LogRatios(eqx.Module):
    """The log ratios of many replicas: each has weights of its own on the same rows.

    Attributes:
        nets: Stacked classifiers, ``members`` a replica.
        log_norm: Log of the ratio of the total yields, ``[replicas]``.
        members: Number of classifiers of each (static).
        cap: Largest distance from ``log_norm`` (static); None for no cap.
    """

    nets: PyTree
    log_norm: Float[Array, " replicas"]
    members: int = eqx.field(static=True, default=1)
    cap: float | None = eqx.field(static=True, default=None)

    def __call__(self, x: PyTree) -> Float[Array, "replicas rows"]:
        """Return the log ratios of rows ``[rows, ...]``."""
        shape = log_mean(_evaluate(self.nets, single(x)), self.members)
        return _capped(shape, self.cap) + self.log_norm[:, None]

    def one(self, replica: int) -> LogRatio:
        """Return the log ratio of a replica."""
        own, shared = eqx.partition(self.nets, trainable(self.nets))
        chosen = slice(replica * self.members, (replica + 1) * self.members)
        nets = eqx.combine(jax.tree.map(lambda leaf: leaf[chosen], own), shared)
        return LogRatio(nets, self.log_norm[replica], members=self.members, cap=self.cap)


_evaluate = eqx.filter_jit(evaluate)


def _capped(shape: Array, cap: float | None) -> Array:
    return shape if cap is None else jnp.clip(shape, -cap, cap)


def single(x: PyTree) -> PyTree:
    """Return the rows as arrays, their real numbers in single precision."""

    def narrow(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        return leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(narrow, x)
