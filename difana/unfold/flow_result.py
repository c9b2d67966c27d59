"""What the unfolding by a flow returns: draws of the truth of each measured event."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from difana._errors import InputError
from difana._result import AbstractResult
from difana.flows import Flow
from difana.unfold._precision import Origin, held, shifted
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.result import UnfoldedEvents
from difana.unfold.status import UnfoldStatus


class FlowUnfoldingResult(AbstractResult):
    """The trained flow and the unfolded events.

    Attributes:
        flow: The trained flow.
        draws: Unfolded events, ``[data, samples, truth]``.
        draw_weights: Their weights; background and fakes have negative ones.
        bootstraps: Weights of the replicas over these, ``[replicas, data, samples or 1]``; None
            without any.
        log_weights: Log weights of the simulated events after all iterations but the last one.
        problem: The inputs as they were given.
        origin: What was subtracted from the observables of the two levels.
        flags: Bits of ``UnfoldStatus`` (static).
    """

    bits = UnfoldStatus

    flow: Flow
    draws: Float[Array, "data samples truth"]
    draw_weights: Float[Array, "data samples"]
    bootstraps: Float[Array, "replicas data _samples"] | None
    log_weights: Float[Array, "iterations events"]
    problem: UnfoldingProblem
    origin: Origin
    flags: int = eqx.field(static=True)

    @property
    def status(self) -> int:
        """Bits of ``UnfoldStatus``."""
        return self.flags

    def sample(
        self, reco: Float[ArrayLike, "events reco"], *, key: PRNGKeyArray, samples: int = 100
    ) -> Float[Array, "events samples truth"]:
        """Return draws from the posterior of the truth of each event.

        Args:
            reco: Detector-level observables.
            key: Random key; the draws of event ``i`` depend on ``key`` and ``i`` only.
            samples: Draws an event.

        Raises:
            InputError: For other columns.
        """
        x = reco if isinstance(reco, Array) else np.asarray(reco, float)
        x = x[:, None] if x.ndim == 1 else x
        if x.shape[1:] != self.problem.reco.shape[1:]:
            raise InputError(
                f"reco has columns {x.shape[1:]}, the fit {self.problem.reco.shape[1:]}"
            )
        near = shifted(x, self.origin.reco).astype(jnp.float32)
        return back(drawn(self.flow, near, key, samples), self.origin)

    def unfolded(self) -> UnfoldedEvents:
        """Return all draws with their weights: background and fakes with negative ones."""
        flat, weights = self.draws.reshape(-1, self.draws.shape[-1]), self.draw_weights.ravel()
        flat = held(flat)
        replicas = {}
        if self.bootstraps is not None:
            many = self.bootstraps * self.draw_weights
            replicas["bootstrap"] = many.reshape(len(many), -1)
        finite = jnp.all(jnp.isfinite(flat)) & jnp.all(jnp.isfinite(weights))
        return UnfoldedEvents(
            status=jnp.where(finite, 0, int(UnfoldStatus.NOT_FINITE)) | self.flags,
            observables=flat,
            weights=weights,
            replicas=replicas,
            variations={},
            fiducial=jnp.ones(len(flat), bool),
            names=self.problem.names,
            units=self.problem.units,
            metadata=(("method", f"conditional flow, {1 + len(self.log_weights)} iterations"),),
        )


def back(draws: Array, origin: Origin) -> Array:
    """Return draws with the constants of the observables; in float64 where JAX has none."""
    if not origin.gen.any():
        return draws
    return held(np.asarray(draws, np.float64) + origin.gen)  # pyright: ignore


@eqx.filter_jit
def drawn(flow: Flow, reco: Array, key: Array, samples: int) -> Array:
    """Return draws of the flow for each event, compiled."""
    return flow.sample(reco, key=key, samples=samples)
