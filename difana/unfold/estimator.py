"""OmniFold with the manners of scikit-learn: settings, fit, weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from difana._errors import InputError, ModelError
from difana._typing import PyTree
from difana.nn import MLP, Standardised, trainable
from difana.unfold._ratio import evaluate
from difana.unfold.omnifold import (
    OmniFoldResult,
    Settings,
    omnifold,
    poisson_factors,
    stacked_nets,
)
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.result import UnfoldedEvents
from difana.unfold.status import UnfoldStatus, describe


class OmniFold(eqx.Module):
    """Unbinned unfolding by iterated reweighting; frozen: ``fit`` returns a fitted copy.

    Attributes:
        gen_net: Network of step 2: a function ``key -> net``; None makes an MLP of two layers of
            64. Networks take standardised observables and return a logit.
        reco_net: The same for step 1.
        iterations: Number of iterations (static, as all the following).
        epochs: Largest number of epochs of a step.
        batch_size: Events in a batch.
        learning_rate: That of Adam.
        patience: Epochs without improvement on held-out events after which a step ends.
        held_out: Fraction of held-out events.
        cap: Largest absolute log weight; events at the cap are counted.
        missed: Missed events keep the weight of the last iteration (``"prior"``) or get the mean
            weight of reconstructed events of the same truth (``"learned"``).
        fakes: Fakes keep their simulated weight (``"prior"``) or get the mean weight of ordinary
            events that look like them (``"learned"``, one more training an iteration).
        background: ``"subtract"`` it from the data inside step 1 with negative weights, or
            ``"add"`` it to the simulation, which needs no negative weight.
        warm_start: Start each step from the network of the last iteration, else from the first.
        seeds: Number of initialisations; the nominal weight is their mean.
        bootstraps: Number of replicas with Poisson factors on data and simulation.
        chunk: Replicas in one program; the result does not depend on it. None: all.
        result: What ``fit`` found; None before.

    Example:
        >>> model = OmniFold(iterations=2)
        >>> model.iterations, model.result is None
        (2, True)

    References:
        arXiv:1911.09107; arXiv:2105.04448 for fakes, misses and background.
    """

    gen_net: Callable | None = eqx.field(static=True, default=None)
    reco_net: Callable | None = eqx.field(static=True, default=None)
    iterations: int = eqx.field(static=True, default=4)
    epochs: int = eqx.field(static=True, default=50)
    batch_size: int = eqx.field(static=True, default=2048)
    learning_rate: float = eqx.field(static=True, default=1e-3)
    patience: int = eqx.field(static=True, default=5)
    held_out: float = eqx.field(static=True, default=0.2)
    cap: float = eqx.field(static=True, default=10.0)
    missed: Literal["prior", "learned"] = eqx.field(static=True, default="prior")
    fakes: Literal["prior", "learned"] = eqx.field(static=True, default="prior")
    background: Literal["subtract", "add"] = eqx.field(static=True, default="subtract")
    warm_start: bool = eqx.field(static=True, default=True)
    seeds: int = eqx.field(static=True, default=1)
    bootstraps: int = eqx.field(static=True, default=0)
    chunk: int | None = eqx.field(static=True, default=None)
    result: OmniFoldResult | None = None
    problem: UnfoldingProblem | None = None
    fitted_net: PyTree = None
    event_factors: Float[Array, "_bootstraps events"] | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the program."""
        return Settings(**{name: getattr(self, name) for name in Settings._fields[:-1]}).check()

    def fit(self, problem: UnfoldingProblem, *, key: PRNGKeyArray) -> OmniFold:
        """Return a fitted copy.

        Replicas 0 to ``seeds - 1`` are the seeds on the data as they are, the others bootstraps,
        each with an initialisation of its own. Replica ``r`` depends on ``key`` and ``r`` only.

        Args:
            problem: The inputs, see ``difana.unfold.unfolding_problem``.
            key: Random key of everything.

        Raises:
            InputError: If a number of replicas makes no sense.
            ConfigError: If a setting has no meaning.
            ModelError: If a weight or loss is not finite in any replica.
        """
        settings = self.settings
        if self.seeds < 1 or self.bootstraps < 0 or (self.chunk is not None and self.chunk < 1):
            raise InputError(
                f"seeds = {self.seeds}, bootstraps = {self.bootstraps}, chunk = {self.chunk}: at"
                " least one seed, no negative number of bootstraps and a positive chunk are needed"
            )
        replicas = self.seeds + self.bootstraps
        keys = jax.random.split(key, 5)
        makers = [
            _standardised(make, x[np.asarray(mask)])
            for make, x, mask in (
                (self.reco_net, problem.reco, problem.pass_reco),
                (self.gen_net, problem.gen, problem.pass_gen),
            )
        ]
        nets = [stacked_nets(make, k, replicas) for make, k in zip(makers, keys, strict=False)]
        factors: list[Any] = [None, None]
        if self.bootstraps:
            sizes = (len(problem.data), len(problem.gen))
            factors = [
                jnp.concatenate([jnp.ones((self.seeds, n)), poisson_factors(k, self.bootstraps, n)])
                for k, n in zip(keys[2:4], sizes, strict=True)
            ]
        size = self.chunk or replicas
        parts = []
        for start in range(0, replicas, size):
            chosen = jnp.arange(start, min(start + size, replicas))
            reco, gen = (_take(net, chosen) for net in nets)
            data, events = (None if f is None else f[chosen] for f in factors)
            parts.append(
                omnifold(
                    problem, reco, gen, settings, key=keys[4], data_factors=data,
                    event_factors=events,
                )
            )  # fmt: skip
        result = _joined(parts)
        bad = np.flatnonzero(np.asarray(result.status) & int(UnfoldStatus.NOT_FINITE))
        if bad.size:
            raise ModelError(
                f"replicas {bad.tolist()}: {describe(int(UnfoldStatus.NOT_FINITE))}; lower"
                " learning_rate, or check that the weights of data minus background are positive"
            )
        _, static = eqx.partition(nets[1], trainable(nets[1]))
        return eqx.tree_at(
            lambda model: (model.result, model.problem, model.fitted_net, model.event_factors),
            self,
            (result, problem, static, factors[1][self.seeds :] if self.bootstraps else None),
            is_leaf=lambda node: node is None,
        )  # fmt: skip

    def weights(
        self, gen: Float[ArrayLike, "events *truth"] | None = None
    ) -> Float[Array, " events"]:
        """Return the unfolded over the simulated weight, the mean of all seeds.

        Args:
            gen: Truth-level observables inside the fiducial region, ``[events, truth]``; None
                returns those of the events of the fit.

        Raises:
            InputError: Before ``fit``, or for other columns.
        """
        result, problem = self._fitted()
        if gen is None:
            return jnp.mean(jnp.exp(result.log_weights[-1, : self.seeds]), axis=0)
        x = jnp.asarray(gen)
        x = x[:, None] if x.ndim == 1 else x
        if x.shape[1:] != problem.gen.shape[1:]:
            raise InputError(f"gen has columns {x.shape[1:]}, the fit {problem.gen.shape[1:]}")
        leaves = jax.tree.map(lambda leaf: leaf[: self.seeds], result.gen_net)
        logit = evaluate(leaves, self.fitted_net, x.astype(result.log_weights.dtype), 8192)
        log = jnp.clip(logit + result.log_norm[: self.seeds, None], -self.cap, self.cap)
        return jnp.mean(jnp.exp(log), axis=0)

    def unfolded(self) -> UnfoldedEvents:
        """Return the events with their unfolded weights and replicas.

        Raises:
            InputError: Before ``fit``.
        """
        result, problem = self._fitted()
        nominal = problem.gen_weights * self.weights()
        ratio = jnp.exp(result.log_weights[-1])
        replicas = {}
        if self.seeds > 1:
            replicas["ensemble"] = problem.gen_weights * ratio[: self.seeds]
        if self.event_factors is not None:
            weights = problem.gen_weights * self.event_factors
            replicas["bootstrap"] = weights * ratio[self.seeds :]
        status = jnp.bitwise_or.reduce(result.status)
        return UnfoldedEvents(
            status=status,
            observables=problem.gen,
            weights=jnp.where(problem.pass_gen, nominal, 0.0),
            replicas=replicas,
            variations={},
            fiducial=problem.pass_gen,
            names=problem.names,
            units=problem.units,
            metadata=(("method", "OmniFold"),),
        )

    def _fitted(self) -> tuple[OmniFoldResult, UnfoldingProblem]:
        if self.result is None or self.problem is None:
            raise InputError("this OmniFold is not fitted: call model = model.fit(problem, key=..)")
        return self.result, self.problem


def _standardised(make: Callable | None, x: Array) -> Callable[[Array], PyTree]:
    features = np.asarray(x)
    if make is None:
        if features.ndim != 2:
            raise InputError("give gen_net and reco_net for particles: no network is made for them")
        make = lambda key: MLP(features.shape[1], [64, 64], key=key)  # noqa: E731
    if features.ndim != 2:
        return make
    mean_std = Standardised.fit(lambda z: z, jnp.asarray(features))
    mean, std = (np.asarray(part, np.float32) for part in (mean_std.mean, mean_std.std))
    return lambda key: Standardised(make(key), mean, std)


def _take(stacked: PyTree, chosen: Array) -> PyTree:
    leaves, rest = eqx.partition(stacked, trainable(stacked))
    return eqx.combine(jax.tree.map(lambda leaf: leaf[chosen], leaves), rest)


def _joined(parts: list[OmniFoldResult]) -> OmniFoldResult:
    """Return the replicas of all chunks as one result."""
    if len(parts) == 1:
        return parts[0]

    def join(axis: int, pick: Callable) -> Any:
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis), *map(pick, parts))

    return OmniFoldResult(
        join(1, lambda p: p.log_weights), join(1, lambda p: p.report), join(0, lambda p: p.gen_net),
        join(0, lambda p: p.log_norm), join(0, lambda p: p.status),
    )  # fmt: skip
