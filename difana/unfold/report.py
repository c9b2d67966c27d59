"""What OmniFold reports of each iteration and returns at the end."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from difana._result import AbstractResult
from difana._typing import PyTree
from difana.unfold.status import UnfoldStatus


class IterationReport(eqx.Module):
    r"""What happened in each iteration, ``[iterations, replicas]`` each.

    Attributes:
        effective: Effective fraction of the simulated events, :math:`(\sum w)^2 / N \sum w^2`.
        norm: Unfolded yield over the simulated one.
        largest: Largest ratio of unfolded to simulated weight.
        change: Weighted mean of the absolute change of the log weights since the last iteration.
        saturated: Number of fiducial events at the cap.
        chi2: Fold-forward test: the unfolded simulation at detector level against data minus
            background, in bins of equal data, per bin and mean over the observables.
        loss: Lowest held-out loss of the two steps, ``[iterations, replicas, 2]``.
        epochs: Epochs trained in the two steps, ``[iterations, replicas, 2]``.
        finite: False from the iteration on in which a number was not finite.
        ran: False for iterations after the stopping rule was met; they change nothing.
    """

    effective: Float[Array, "iterations replicas"]
    norm: Float[Array, "iterations replicas"]
    largest: Float[Array, "iterations replicas"]
    change: Float[Array, "iterations replicas"]
    saturated: Int[Array, "iterations replicas"]
    chi2: Float[Array, "iterations replicas"]
    loss: Float[Array, "iterations replicas 2"]
    epochs: Int[Array, "iterations replicas 2"]
    finite: Bool[Array, "iterations replicas"]
    ran: Bool[Array, "iterations replicas"]

    def table(self, replica: int = 0) -> str:
        """Return the report of one replica as lines of text.

        Example:
            >>> import jax.numpy as jnp
            >>> one, two = jnp.ones((1, 1)), jnp.ones((1, 1, 2))
            >>> report = IterationReport(*[one] * 6, two, two.astype(int), one > 0, one > 0)
            >>> report.table().splitlines()[1].split()
            ['1', '1.000', '1.0000', '1', '1.0000', '1', '1.00', '1.00000', '1.00000']
        """
        rows = ["iteration effective    norm largest  change capped  chi2  loss 1   loss 2"]
        for k in range(len(self.norm)):
            if not bool(self.ran[k, replica]):
                break
            one, two = (float(part) for part in self.loss[k, replica])
            rows.append(
                f"{k + 1:9d} {float(self.effective[k, replica]):9.3f}"
                f" {float(self.norm[k, replica]):7.4f} {float(self.largest[k, replica]):7.3g}"
                f" {float(self.change[k, replica]):7.4f} {int(self.saturated[k, replica]):6d}"
                f" {float(self.chi2[k, replica]):5.2f} {one:.5f} {two:.5f}"
            )
        return "\n".join(rows)


class OmniFoldWeights(AbstractResult):
    """Log weights of all iterations and replicas.

    Attributes:
        log_weights: Log of unfolded over simulated weight, ``[iterations, replicas, events]``;
            zero for events outside the fiducial region.
        report: What happened in each iteration.
        gen_net: Stacked trained leaves of the networks of step 2, ``ensemble`` a replica.
        log_norm: Added to the log of the mean ratio of these networks to give the log weight,
            ``[replicas]``.
        status: Bits of ``UnfoldStatus``, ``[replicas]``.
        log_scale: Log of the ratio of the yields in it; the cap counts from there.
    """

    bits = UnfoldStatus

    log_weights: Float[Array, "iterations replicas events"]
    report: IterationReport
    gen_net: PyTree
    log_norm: Float[Array, " replicas"]
    status: Int[Array, " replicas"]
    log_scale: Float[Array, " replicas"]


def summary(
    new: Array,
    old: Array,
    weights: Array,
    fiducial: Array,
    cap: float,
    scale: Array | float = 0.0,
) -> tuple[Array, Array, Array, Array, Array]:
    """Return effective fraction, norm, largest ratio, change and saturated events."""
    scale = jnp.broadcast_to(jnp.asarray(scale, new.dtype), new.shape[:1])
    w = weights * jnp.exp(new)
    total, prior = jnp.sum(w, axis=1), jnp.sum(weights, axis=1)
    events = jnp.sum(fiducial)
    return (
        total**2 / (events * jnp.sum(w**2, axis=1)),
        total / prior,
        jnp.exp(jnp.max(jnp.where(fiducial, new, -jnp.inf), axis=1)),
        jnp.sum(weights * jnp.abs(new - old), axis=1) / prior,
        # rounding of the sum with the scale must not hide what is at the cap
        jnp.sum(fiducial & (jnp.abs(new - scale[:, None]) >= cap * (1 - 1e-5)), axis=1),
    )
