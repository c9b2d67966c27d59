"""OmniFold with the manners of scikit-learn: settings, fit, weights."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from difana._errors import ConfigError, InputError, ModelError
from difana._options import whole_number
from difana._typing import PyTree
from difana.nn import MLP, Standardised, location_and_scale, trainable
from difana.unfold._given import enough_events, far_events, to_scale, without_far
from difana.unfold._halves import omnifold_with_checkpoints
from difana.unfold._precision import centred, shifted
from difana.unfold._ratio import evaluate, log_mean
from difana.unfold.omnifold import omnifold, prepared
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import Plan, Replicas, checked_variations, stacked_nets
from difana.unfold.report import OmniFoldResult
from difana.unfold.result import UnfoldedEvents
from difana.unfold.settings import Settings
from difana.unfold.status import UnfoldStatus, describe, joined

MakeNet = Callable[[Array], PyTree]


class OmniFold(eqx.Module):
    """Unbinned unfolding by iterated reweighting; frozen: ``fit`` returns a fitted copy.

    A step keeps the mean of the network's weights over the epoch that is best on held-out events.

    Attributes:
        gen_net: Network of step 2: a function ``key -> net``; None makes an MLP of two layers of
            64 with SiLU: log ratios are smooth, and kinks of ReLU show in bins of small errors.
            Networks take standardised observables (particles as they are) and return a logit.
        reco_net: The same for step 1.
        iterations: Number of iterations (static, as all the following).
        epochs: Largest number of epochs of a step.
        batch_size: Events in a batch; None: a 64th of the training rows, between 128 and 2048.
        learning_rate: That of Adam.
        final_rate: Learning rate of the last epoch over that of the first; a cosine between.
        patience: Epochs without improvement on held-out events after which a step ends.
        held_out: Fraction of held-out events.
        cap: Largest absolute log weight; events at the cap are counted.
        missed: Missed events keep the weight of the last iteration (``"prior"``) or get the mean
            weight of reconstructed events of the same truth (``"learned"``).
        fakes: Fakes keep their simulated weight (``"prior"``) or get the mean weight of ordinary
            events that look like them (``"learned"``, one more training an iteration).
        background: ``"subtract"`` it from the data inside step 1 with negative weights;
            ``"reweight"`` the data once to data minus background, with positive weights from one
            more training; or ``"add"`` it to the simulation.
        warm_start: Start each step from the network of the last iteration, else from the first.
        ensemble: Networks of each step; the mean of their ratios is handed on to the other step.
        tolerance: A replica stops when the mean absolute change of its log weights falls below;
            0 means never.
        fold_bins: Bins of the fold-forward test.
        dtype: Type of the networks and log weights.
        seeds: Number of initialisations; the nominal weight is their mean.
        bootstraps: Number of replicas with Poisson factors on data, simulation and background.
        chunk: Replicas in one program; the result does not depend on it. None: all.
        lanes: Replicas trained side by side in a program, the others after them; the result does
            not depend on it. None: all on an accelerator, as many as fit the cache on a CPU.
        result: What ``fit`` found; None before.

    Example:
        >>> model = OmniFold(iterations=2)
        >>> model.iterations, model.result is None
        (2, True)

    References:
        arXiv:1911.09107; arXiv:2105.04448 for fakes, misses and background; arXiv:2007.11586 for
        positive weights; arXiv:2503.20753 for the ensemble inside a step.
    """

    gen_net: MakeNet | None = eqx.field(static=True, default=None)
    reco_net: MakeNet | None = eqx.field(static=True, default=None)
    iterations: int = eqx.field(static=True, default=4)
    epochs: int = eqx.field(static=True, default=30)
    batch_size: int | None = eqx.field(static=True, default=None)
    learning_rate: float = eqx.field(static=True, default=2e-3)
    final_rate: float = eqx.field(static=True, default=0.05)
    patience: int = eqx.field(static=True, default=5)
    held_out: float = eqx.field(static=True, default=0.2)
    cap: float = eqx.field(static=True, default=10.0)
    missed: Literal["prior", "learned"] = eqx.field(static=True, default="prior")
    fakes: Literal["prior", "learned"] = eqx.field(static=True, default="prior")
    background: Literal["subtract", "reweight", "add"] = eqx.field(static=True, default="subtract")
    warm_start: bool = eqx.field(static=True, default=True)
    ensemble: int = eqx.field(static=True, default=1)
    tolerance: float = eqx.field(static=True, default=0.0)
    fold_bins: int = eqx.field(static=True, default=20)
    dtype: str = eqx.field(static=True, default="float32")
    seeds: int = eqx.field(static=True, default=1)
    bootstraps: int = eqx.field(static=True, default=0)
    chunk: int | None = eqx.field(static=True, default=None)
    lanes: int | None = eqx.field(static=True, default=None)
    result: OmniFoldResult | None = None
    problem: UnfoldingProblem | None = None
    fitted_net: PyTree = None
    gen_factors: Float[Array, "_replicas events"] | None = None
    origin: Float[np.ndarray, " truth"] | None = None
    flags: int = eqx.field(static=True, default=0)
    variations: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def settings(self) -> Settings:
        """The settings of the program."""
        return Settings(**{name: getattr(self, name) for name in Settings._fields}).check()

    def fit(
        self,
        problem: UnfoldingProblem,
        *,
        key: PRNGKeyArray,
        variations: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = True,
        devices: Sequence[Any] | None = None,
        progress_bar: bool = True,
    ) -> OmniFold:
        """Return a fitted copy.

        Replicas are, in this order, the seeds on the data as they are, the bootstraps, and each
        systematic variation with each seed. A variation starts from the networks of the nominal
        seed, so that their difference holds no change of seed. Replica ``r`` depends on ``key`` and
        ``r`` only.

        Args:
            problem: The inputs, see ``difana.unfold.unfolding_problem``.
            key: Random key of everything.
            variations: By name, the simulation after a shift of one standard deviation: factors
                on its weights, ``{"scale": {"gen": [events], "reco": [events]}}``, or
                ``"background"``; or other numbers at detector level, ``{"jes": {"observables":
                [events, reco], "pass_reco": [events]}}``.
            checkpoint: Folder of checkpoints, one after each half step; a run that was
                interrupted continues there. Without it each chunk is one compiled program.
            resume: False: delete the checkpoints and start over.
            devices: Devices over which the replicas of a chunk are spread; not with ``checkpoint``.
            progress_bar: False for no bar; there is none without a terminal in any case.

        Raises:
            InputError: If a variation does not fit, or there are too few events.
            ConfigError: If a setting has no meaning, or the checkpoint is of another run.
            ModelError: If a weight or loss is not finite in any replica.

        Warns:
            UserWarning: For a broken event far from all others, and for a simulation whose weights
                are of another scale than the data (more than a factor of 10): it is scaled to the
                data first. The status says both.
        """
        settings = self.settings
        whole_number("seeds", self.seeds)
        whole_number("bootstraps", self.bootstraps, least=0)
        if self.chunk is not None:
            whole_number("chunk", self.chunk)
        if checkpoint is not None and devices is not None:
            raise ConfigError("checkpoint and devices exclude each other: give one of them")
        enough_events(problem)
        given, flags = problem, far_events(problem)
        problem, origin = centred(problem)
        problem, far = without_far(problem)
        problem, log_scale = to_scale(problem)
        plan = Plan(
            self.seeds, self.bootstraps, checked_variations(variations, given, origin=origin.reco)
        )
        shifts = plan.shifts(problem)
        workers = 1 if devices is None else len(devices)
        size = -(-min(self.chunk or plan.number, plan.number) // workers) * workers
        parts, factors = [], []
        for start in range(0, plan.number, size):
            # the last chunk is filled up: all chunks are one compiled program
            chosen = np.minimum(np.arange(start, start + size), plan.number - 1)
            starts = np.array([plan.start(int(replica)) for replica in chosen])
            (reco_nets, gen_nets), run = self.start(problem, starts, key=key)
            replicas = plan.factors(chosen, problem, jax.random.split(key, 6)[3:])
            inputs = (problem, reco_nets, gen_nets, settings)
            named = {"key": run, "replicas": replicas, "shifts": shifts}
            if checkpoint is None:
                part = omnifold(*inputs, **named, devices=devices)
            else:
                part = omnifold_with_checkpoints(
                    prepared(*inputs, **named),
                    Path(checkpoint) / f"replicas_{start}",
                    resume=resume,
                    progress_bar=progress_bar,
                )
            parts.append(part)
            factors.append(replicas)
        result = _scaled(_joined(parts, plan.number, self.ensemble), log_scale, given)
        if far.any():  # they keep their simulated weight
            logs = jnp.where(jnp.asarray(far & np.asarray(given.pass_gen)), log_scale,
                             result.log_weights)  # fmt: skip
            result = eqx.tree_at(lambda r: r.log_weights, result, logs)
        bad = np.flatnonzero(np.asarray(result.status) & int(UnfoldStatus.NOT_FINITE))
        if bad.size:
            raise ModelError(
                f"replicas {bad.tolist()}: {describe(int(UnfoldStatus.NOT_FINITE))}; lower"
                " learning_rate, or check that the weights of data minus background are positive"
            )
        _, static = eqx.partition(gen_nets, trainable(gen_nets))
        return dataclasses.replace(
            self,
            result=result,
            problem=given,
            origin=origin.gen,
            flags=flags | (int(UnfoldStatus.OTHER_SCALE) if log_scale else 0),
            fitted_net=static,
            gen_factors=_gen_factors(factors, plan.number),
            variations=tuple(name for name, _ in plan.variations),
        )

    def start(
        self, problem: UnfoldingProblem, starts: Int[np.ndarray, " replicas"], *, key: PRNGKeyArray
    ) -> tuple[list[PyTree], Array]:
        """Return networks of step 1 and 2 with chosen initialisations, and the key of the run.

        What ``fit`` does first, for direct use of ``difana.unfold.omnifold``.
        """
        keys = jax.random.split(key, 6)
        nets = [
            stacked_nets(make, k, starts, ensemble=self.ensemble)
            for make, k in zip(self._makers(problem), keys[:2], strict=True)
        ]
        return nets, keys[2]

    def _makers(self, problem: UnfoldingProblem) -> list[MakeNet]:
        return [
            _standardised(make, x[np.asarray(mask)])
            for make, x, mask in (
                (self.reco_net, problem.reco, problem.pass_reco),
                (self.gen_net, problem.gen, problem.pass_gen),
            )
        ]

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
        x = gen if isinstance(gen, Array) else np.asarray(gen, float)
        x = x[:, None] if x.ndim == 1 else x
        if x.shape[1:] != problem.gen.shape[1:]:
            raise InputError(f"gen has columns {x.shape[1:]}, the fit {problem.gen.shape[1:]}")
        x = jnp.asarray(x) if self.origin is None else shifted(x, self.origin)
        nets = jax.tree.map(lambda leaf: leaf[: self.seeds * self.ensemble], result.gen_net)
        logit = evaluate(nets, self.fitted_net, x.astype(result.log_weights.dtype))
        log = log_mean(logit, self.ensemble) + result.log_norm[: self.seeds, None]
        scale = result.log_scale[: self.seeds, None]  # the cap is that of the shape
        return jnp.mean(jnp.exp(scale + jnp.clip(log - scale, -self.cap, self.cap)), axis=0)

    def unfolded(self) -> UnfoldedEvents:
        """Return the events with their unfolded weights, replicas and variations.

        Raises:
            InputError: Before ``fit``.
        """
        result, problem = self._fitted()
        weights = problem.gen_weights * jnp.exp(result.log_weights[-1])
        if self.gen_factors is not None:
            weights = weights * self.gen_factors
        weights = jnp.where(problem.pass_gen, weights, 0.0)
        own = self.seeds + self.bootstraps
        replicas = {"ensemble": weights[: self.seeds]} if self.seeds > 1 else {}
        if self.bootstraps:
            replicas["bootstrap"] = weights[self.seeds : own]
        return UnfoldedEvents(
            status=joined(result.status) | self.flags,
            observables=problem.gen,
            weights=jnp.mean(weights[: self.seeds], axis=0),
            replicas=replicas,
            variations={
                name: jnp.mean(weights[own + k * self.seeds :][: self.seeds], axis=0)
                for k, name in enumerate(self.variations)
            },
            fiducial=problem.pass_gen,
            names=problem.names,
            units=problem.units,
            metadata=(
                ("method", "OmniFold"),
                ("iterations", str(self.iterations)),
                ("seeds", str(self.seeds)),
                ("ensemble in each step", str(self.ensemble)),
            ),
        )

    def _fitted(self) -> tuple[OmniFoldResult, UnfoldingProblem]:
        if self.result is None or self.problem is None:
            raise InputError("this OmniFold is not fitted: call model = model.fit(problem, key=..)")
        return self.result, self.problem


def _standardised(make: MakeNet | None, x: Array) -> MakeNet:
    features = np.asarray(x)
    if make is None:
        if features.ndim != 2:
            raise InputError("give gen_net and reco_net for particles: no network is made for them")
        make = lambda key: MLP(  # noqa: E731
            features.shape[1], [64, 64], activation="silu", key=key
        )
    if features.ndim != 2:
        return make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # far_events has said it
        moments = location_and_scale(features)
    mean, std = (np.asarray(part, np.float32) for part in moments)
    return lambda key: Standardised(make(key), mean, std)


def _gen_factors(factors: list[Replicas], number: int) -> Array | None:
    rows = [part.gen for part in factors if part.gen is not None]
    return jnp.concatenate(rows)[:number] if rows else None


def _joined(parts: list[OmniFoldResult], number: int, ensemble: int) -> OmniFoldResult:
    """Return the replicas of all chunks as one result, without what filled up the last."""

    def join(axis: int, size: int, pick: Callable) -> Any:
        return jax.tree.map(
            lambda *leaves: jax.lax.slice_in_dim(jnp.concatenate(leaves, axis), 0, size, axis=axis),
            *map(pick, parts),
        )

    return OmniFoldResult(
        join(1, number, lambda p: p.log_weights), join(1, number, lambda p: p.report),
        join(0, number * ensemble, lambda p: p.gen_net), join(0, number, lambda p: p.log_norm),
        join(0, number, lambda p: p.status), join(0, number, lambda p: p.log_scale),
    )  # fmt: skip


def _scaled(result: OmniFoldResult, log_scale: float, problem: UnfoldingProblem) -> OmniFoldResult:
    """Return log weights relative to the simulation as it was given."""
    if not log_scale:
        return result
    logs = jnp.where(problem.pass_gen, result.log_weights + log_scale, 0.0)
    added = (logs, result.log_norm + log_scale, result.log_scale + log_scale)
    norm = result.report.norm * np.exp(log_scale)
    largest = result.report.largest * np.exp(log_scale)
    return eqx.tree_at(
        lambda r: (r.log_weights, r.log_norm, r.log_scale, r.report.norm, r.report.largest),
        result, (*added, norm, largest),
    )  # fmt: skip
