"""What a fit of OmniFold returns: weights of simulated events, of all replicas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from difana._errors import InputError
from difana._typing import PyTree
from difana.ratio import evaluate, log_mean
from difana.unfold._precision import shifted
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import Replicas
from difana.unfold.report import OmniFoldWeights
from difana.unfold.result import UnfoldedEvents
from difana.unfold.settings import Settings
from difana.unfold.status import joined


class OmniFoldResult(OmniFoldWeights):
    """Log weights of all iterations and replicas, and the functions that gave them.

    Attributes:
        problem: The inputs as they were given.
        settings: How it was fitted (static, as ``seeds``, ``bootstraps``, ``variations``).
        seeds: Number of nominal replicas: the first ones.
        bootstraps: Number of bootstraps: those after them.
        variations: Names of the systematic variations; each has ``seeds`` replicas, the last ones.
        static: What is not trained of the networks of step 2.
        factors: Factors of the replicas on the truth-level weights; None without any.
        origin: What was subtracted from the truth-level observables.
        flags: Bits of ``UnfoldStatus`` that all replicas share (static).
    """

    problem: UnfoldingProblem
    settings: Settings = eqx.field(static=True)
    seeds: int = eqx.field(static=True)
    bootstraps: int = eqx.field(static=True)
    variations: tuple[str, ...] = eqx.field(static=True)
    static: PyTree
    factors: Float[Array, "_replicas events"] | None
    origin: Float[np.ndarray, " truth"]
    flags: int = eqx.field(static=True)

    @property
    def all_status(self) -> Int[Array, " replicas"]:
        """The status of all replicas, and what they share."""
        return self.status | self.flags

    @classmethod
    def of(
        cls,
        found: OmniFoldWeights,
        problem: UnfoldingProblem,
        settings: Settings,
        replicas: Replicas,
        *,
        log_scale: float,
        far: np.ndarray,
        **more: Any,
    ) -> OmniFoldResult:
        """Return log weights relative to the simulation as it was given.

        Args:
            found: What the scaled simulation gave.
            problem: The inputs as they were given.
            settings: How it was fitted.
            replicas: The replicas.
            log_scale: Log of the factor on the simulation.
            far: Events that took no part and keep their simulated weight.
            more: The other attributes.
        """
        inside = problem.pass_gen
        if log_scale:
            added = (
                jnp.where(inside, found.log_weights + log_scale, 0.0),
                found.log_norm + log_scale, found.log_scale + log_scale,
                found.report.norm * np.exp(log_scale), found.report.largest * np.exp(log_scale),
            )  # fmt: skip
            found = eqx.tree_at(
                lambda r: (r.log_weights, r.log_norm, r.log_scale, r.report.norm, r.report.largest),
                found, added,
            )  # fmt: skip
        if far.any():
            alone = jnp.asarray(far & np.asarray(inside))
            logs = jnp.where(alone, log_scale, found.log_weights)
            found = eqx.tree_at(lambda r: r.log_weights, found, logs)
        fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(OmniFoldWeights)}
        return cls(
            **fields, problem=problem, settings=settings, seeds=replicas.seeds,
            bootstraps=replicas.bootstraps, variations=tuple(replicas.variations), **more,
        )  # fmt: skip

    def weights(
        self, gen: Float[ArrayLike, "events *truth"] | None = None
    ) -> Float[Array, " events"]:
        """Return the unfolded over the simulated weight, the mean of all seeds.

        Args:
            gen: Truth-level observables inside the fiducial region, ``[events, truth]``; None
                returns those of the events of the fit.

        Raises:
            InputError: For other columns.
        """
        seeds, members, cap = self.seeds, self.settings.ensemble, self.settings.cap
        if gen is None:
            return jnp.mean(jnp.exp(self.log_weights[-1, :seeds]), axis=0)
        x = gen if isinstance(gen, Array) else np.asarray(gen, float)
        x = x[:, None] if x.ndim == 1 else x
        if x.shape[1:] != self.problem.gen.shape[1:]:
            raise InputError(f"gen has columns {x.shape[1:]}, the fit {self.problem.gen.shape[1:]}")
        x = shifted(x, self.origin).astype(self.log_weights.dtype)
        nets = jax.tree.map(lambda leaf: leaf[: seeds * members], self.gen_net)
        logit = evaluate(eqx.combine(nets, self.static), x)
        log = log_mean(logit, members) + self.log_norm[:seeds, None]
        scale = self.log_scale[:seeds, None]  # the cap is that of the shape
        return jnp.mean(jnp.exp(scale + jnp.clip(log - scale, -cap, cap)), axis=0)

    def unfolded(self) -> UnfoldedEvents:
        """Return the events with their unfolded weights, replicas and variations."""
        problem, seeds = self.problem, self.seeds
        weights = problem.gen_weights * jnp.exp(self.log_weights[-1])
        if self.factors is not None:
            weights = weights * self.factors
        weights = jnp.where(problem.pass_gen, weights, 0.0)
        own = seeds + self.bootstraps
        replicas = {"ensemble": weights[:seeds]} if seeds > 1 else {}
        if self.bootstraps:
            replicas["bootstrap"] = weights[seeds:own]
        return UnfoldedEvents(
            status=joined(self.status) | self.flags,
            observables=problem.gen,
            weights=jnp.mean(weights[:seeds], axis=0),
            replicas=replicas,
            variations={
                name: jnp.mean(weights[own + k * seeds :][:seeds], axis=0)
                for k, name in enumerate(self.variations)
            },
            fiducial=problem.pass_gen,
            names=problem.names,
            units=problem.units,
            metadata=(
                ("method", "OmniFold"),
                ("iterations", str(self.settings.iterations)),
                ("seeds", str(seeds)),
                ("ensemble in each step", str(self.settings.ensemble)),
            ),
        )


def joined_parts(parts: Sequence[OmniFoldWeights], number: int, ensemble: int) -> OmniFoldWeights:
    """Return the replicas of all chunks as one result, without what filled up the last."""

    def join(axis: int, size: int, pick: Callable) -> Any:
        return jax.tree.map(
            lambda *leaves: jax.lax.slice_in_dim(jnp.concatenate(leaves, axis), 0, size, axis=axis),
            *map(pick, parts),
        )

    return OmniFoldWeights(
        join(1, number, lambda p: p.log_weights), join(1, number, lambda p: p.report),
        join(0, number * ensemble, lambda p: p.gen_net), join(0, number, lambda p: p.log_norm),
        join(0, number, lambda p: p.status), join(0, number, lambda p: p.log_scale),
    )  # fmt: skip
