"""The two half steps of OmniFold for all replicas, as functions of a state."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from difana._typing import PyTree
from difana.nn import trainable
from difana.unfold._fold import bin_index, chi2_per_bin, equal_bins, fill
from difana.unfold._ratio import FitReport, Rows, evaluate, fit_ratio, log_mean
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import Replicas, Shifts
from difana.unfold.report import IterationReport, summary
from difana.unfold.settings import Settings


class Indices(NamedTuple):
    """Rows of the simulation that take part at truth level, at detector level, in both."""

    gen: Array
    reco: Array
    both: Array


class Inputs(eqx.Module):
    """Everything a run needs."""

    problem: UnfoldingProblem
    reco_nets: PyTree
    gen_nets: PyTree
    replicas: Replicas
    key: Array
    rows: Indices
    settings: Settings = eqx.field(static=True)
    learn_fakes: bool = eqx.field(static=True)
    shifts: Shifts | None = None


class State(NamedTuple):
    """What one half step hands on to the next."""

    log_push: Array
    log_pull: Array
    log_fakes: Array
    log_data: Array
    reco: PyTree
    gen: PyTree
    log_norm: Array
    log_scale: Array
    good: Array
    running: Array
    one: FitReport


class Loop:
    """The half steps; made inside ``jit`` from the inputs, without work worth saving."""

    def __init__(self, inputs: Inputs) -> None:
        """Split the rows and collect what every iteration looks at."""
        problem, settings, rows = inputs.problem, inputs.settings, inputs.rows
        self.problem, self.settings, self.rows = problem, settings, rows
        self.learn_fakes = inputs.learn_fakes
        self.dtype = jnp.dtype(settings.dtype)
        self.reco_start, self.reco_static = eqx.partition(
            inputs.reco_nets, trainable(inputs.reco_nets)
        )
        self.gen_start, self.gen_static = eqx.partition(inputs.gen_nets, trainable(inputs.gen_nets))
        self.count = len(jax.tree.leaves(self.reco_start)[0]) // settings.ensemble
        factors = inputs.replicas
        self.level, pass_reco, reco = factors.level, problem.pass_reco, problem.reco
        if inputs.shifts is not None:
            reco, pass_reco = inputs.shifts.reco, inputs.shifts.pass_reco[self.level]
        self.both = problem.pass_gen & pass_reco
        gen_weights = jnp.where(problem.pass_gen, problem.gen_weights, 0.0)
        reco_weights = jnp.where(pass_reco, problem.reco_weights, 0.0)
        self.gen_weights = self._spread(gen_weights, factors.gen)
        self.seen_weights = self.gen_weights  # of the events of step 2
        if settings.missed == "learned":
            self.seen_weights = jnp.where(pass_reco, self.gen_weights, 0.0)
        self.reco_weights = self._spread(reco_weights, factors.reco)
        self.data_weights = self._spread(problem.data_weights, factors.data)
        self.gen, self.reco, data = (
            part.astype(self.dtype) for part in (problem.gen, reco, problem.data)
        )
        self.key_start, key_split, self.key_run = jax.random.split(inputs.key, 3)
        keys = jax.random.split(key_split, 3)
        held = jax.random.uniform(keys[0], (len(self.gen),)) < settings.held_out
        parts = [data]
        held_parts = [jax.random.uniform(keys[1], (len(data),)) < settings.held_out]
        self.background = None
        if problem.background is not None:
            self.background = self._spread(problem.background_weights, factors.background)  # pyright: ignore
            parts.append(problem.background.astype(self.dtype))
            held_parts.append(jax.random.uniform(keys[2], (len(parts[1]),)) < settings.held_out)
        self.measured = _Split(jnp.concatenate(parts), jnp.concatenate(held_parts), settings)
        if settings.background == "reweight":
            parts, held_parts = parts[:1], held_parts[:1]
        self.reco_split = _Split(
            self._rows(rows.reco, *parts), jnp.concatenate([held[rows.reco], *held_parts]),
            settings, self.level,
        )  # fmt: skip
        self.gen_split = _Split(self.gen[rows.gen], held[rows.gen], settings)
        self.both_split = _Split(self._rows(rows.both), held[rows.both], settings, self.level)
        inner = equal_bins(data, settings.fold_bins)
        self.bins = inner.size + len(inner)
        index = lambda x: bin_index(x, inner)  # noqa: E731
        self.index = index(self.reco) if self.level is None else jax.lax.map(index, self.reco)
        values, variances = fill(bin_index(data, inner), self.data_weights, self.bins)
        if problem.background is not None:
            other = fill(bin_index(problem.background, inner), self.background, self.bins)  # pyright: ignore
            values, variances = values - other[0], variances + other[1]
        self.folded = values, variances

    def _rows(self, rows: Array, *parts: Array) -> Array:
        """Return rows of the simulation at all levels, then those of the data."""
        if self.level is None:
            return jnp.concatenate([self.reco[rows], *parts])
        more = [jnp.broadcast_to(part, (len(self.reco), *part.shape)) for part in parts]
        return jnp.concatenate([self.reco[:, rows], *more], axis=1)

    def _spread(self, weights: Array, factors: Array | None) -> Array:
        one = jnp.ones((self.count, 1), weights.dtype)
        return weights * (one if factors is None else factors)

    def start(self) -> State:
        """Return the state before the first iteration."""
        replicas = self.count
        push = jnp.zeros((replicas, len(self.gen)), self.dtype)
        log_data = jnp.zeros((), self.dtype)
        good = jnp.ones(replicas, bool)
        if self.background is not None and self.settings.background == "reweight":
            log_data, good = self._positive()
        nothing = FitReport(
            jnp.zeros(replicas, self.dtype), jnp.zeros(replicas, jnp.int32),
            jnp.ones(replicas, bool),
        )  # fmt: skip
        fakes = push if self.learn_fakes else jnp.zeros((), self.dtype)
        return State(
            push, push, fakes, log_data, self.reco_start, self.gen_start,
            jnp.zeros(replicas, self.dtype), jnp.zeros(replicas, self.dtype), good,
            jnp.ones(replicas, bool), nothing,
        )  # fmt: skip

    def _positive(self) -> tuple[Array, Array]:
        """Return log factors on the data that stand for the background, and whether finite."""
        data, background = self.data_weights, jnp.asarray(self.background)
        top = jnp.concatenate([data, -background], 1)
        bottom = jnp.concatenate([data, jnp.zeros_like(background)], 1)
        nets, report = fit_ratio(
            self.reco_start, self.reco_static, *self.measured.rows(top, bottom), self.settings,
            active=jnp.ones(self.count, bool), key=self.key_start,
        )  # fmt: skip
        log = self.ratio(nets, self.measured.x[: data.shape[1]])
        return log + _log_norm(top, data, log)[:, None], report.finite

    def ratio(self, nets: PyTree, x: Array, level: Array | None = None) -> Array:
        """Return the log ratio of networks of step 1, up to a constant, ``[replicas, rows]``."""
        return self._mean(nets, self.reco_static, x, level)

    def _mean(self, nets: PyTree, static: PyTree, x: Array, level: Array | None = None) -> Array:
        members = self.settings.ensemble
        level = None if level is None else jnp.repeat(level, members)
        return log_mean(evaluate(nets, static, x, level), members)

    def detector_weights(self, state: State) -> tuple[Array, Array]:
        """Return weights of the first replica: of the ``measured`` rows, of the simulation."""
        data = self.data_weights[0]
        if self.background is not None:
            data = jnp.concatenate([data, -self.background[0]])
        push = jnp.where(self.problem.pass_gen, state.log_push, state.log_fakes)
        return data, (self.reco_weights * jnp.exp(push))[0]

    def _capped(self, log: Array, norm: Array) -> Array:
        """Return log weights whose shape is capped: what all events share is not counted."""
        norm = jax.lax.stop_gradient(norm)[:, None]
        return norm + jnp.clip(log - norm, -self.settings.cap, self.settings.cap)

    def first(self, state: State, iteration: Array) -> State:
        """Return the state after step 1: pull weights at detector level."""
        key_fit, _, key_fakes = self._keys(iteration)
        fakes = state.log_fakes
        if self.learn_fakes:
            fakes = jax.lax.cond(
                iteration > 0, lambda: self._fakes(state, key_fakes), lambda: fakes
            )
        push = jnp.where(self.problem.pass_gen, state.log_push, fakes)
        now = (self.reco_weights * jnp.exp(push))[:, self.rows.reco]
        above = [jnp.zeros_like(now), self.data_weights * jnp.exp(state.log_data)]
        below = [now, jnp.zeros_like(self.data_weights)]
        if self.background is not None and self.settings.background != "reweight":
            nothing, subtract = jnp.zeros_like(self.background), self.settings.background
            above.append(-self.background if subtract == "subtract" else nothing)
            below.append(nothing if subtract == "subtract" else self.background)
        top, bottom = jnp.concatenate(above, 1), jnp.concatenate(below, 1)
        nets, report = fit_ratio(
            state.reco if self.settings.warm_start else self.reco_start, self.reco_static,
            *self.reco_split.rows(top, bottom), self.settings,
            active=state.running & state.good, key=key_fit,
        )  # fmt: skip
        ratio = self.ratio(nets, self.reco, self.level)
        weighted, logs = now, ratio[:, self.rows.reco]
        if self.background is not None and self.settings.background == "add":
            more = self.ratio(nets, self.problem.background.astype(self.dtype))  # pyright: ignore
            weighted = jnp.concatenate([weighted, self.background], 1)
            logs = jnp.concatenate([logs, more], 1)
        norm = _log_norm(top, weighted, logs)
        ratio = self._capped(ratio + norm[:, None], _log_total(top, weighted, norm))
        pull = jnp.where(self.both, state.log_push + ratio, state.log_push)
        return state._replace(log_pull=pull, log_fakes=fakes, reco=nets, one=report)

    def second(self, state: State, before: PyTree, iteration: Array) -> tuple[State, PyTree]:
        """Return the state after step 2 (push weights at truth level) and the report.

        Args:
            state: The state after step 1.
            before: Networks of step 1 before this iteration, kept where a number is not finite.
            iteration: Number of the iteration.
        """
        _, key_fit, _ = self._keys(iteration)
        prior = self.seen_weights[:, self.rows.gen]
        top = prior * jnp.exp(state.log_pull[:, self.rows.gen])
        start = state.gen if self.settings.warm_start else self.gen_start
        nets, two = fit_ratio(
            start, self.gen_static, *self.gen_split.rows(top, prior), self.settings,
            active=state.running & state.good, key=key_fit,
        )  # fmt: skip
        push = self._mean(nets, self.gen_static, self.gen)
        norm = _log_norm(top, prior, push[:, self.rows.gen])
        scale = _log_total(top, prior, norm)
        push = self._capped(push + norm[:, None], scale)
        push = jnp.where(self.problem.pass_gen, push, 0.0)
        good = state.good & state.one.finite & two.finite & jnp.all(jnp.isfinite(push), axis=1)
        use = good & state.running

        def keep(a: Array, b: Array) -> Array:
            chosen = use if len(a) == self.count else jnp.repeat(use, self.settings.ensemble)
            return jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

        new = jax.tree.map(
            keep, (push, state.reco, nets, norm, scale),
            (state.log_push, before, state.gen, state.log_norm, state.log_scale),
        )  # fmt: skip
        facts = summary(
            new[0], state.log_push, self.gen_weights, self.problem.pass_gen, self.settings.cap,
            new[4],
        )  # fmt: skip
        ran = state.running
        running = ran & ~(facts[3] < self.settings.tolerance)
        folded = jnp.where(self.problem.pass_gen, new[0], state.log_fakes)
        weights = self.reco_weights * jnp.exp(folded)
        simulated = fill(self.index, weights, self.bins, self.level)
        report = IterationReport(
            *facts, chi2_per_bin(self.folded, simulated),
            jnp.stack([state.one.loss, two.loss], -1),
            jnp.stack([state.one.epochs, two.epochs], -1), good, ran,
        )  # fmt: skip
        state = state._replace(
            log_push=new[0], reco=new[1], gen=new[2], log_norm=new[3], log_scale=new[4],
            good=good, running=running,
        )  # fmt: skip
        return state, report

    def _fakes(self, state: State, key: Array) -> Array:
        """Return log E[push | reco], the weight of a fake that looks like this event."""
        prior = self.reco_weights[:, self.rows.both]
        top = prior * jnp.exp(state.log_push[:, self.rows.both])
        nets, _ = fit_ratio(
            self.reco_start, self.reco_static, *self.both_split.rows(top, prior), self.settings,
            active=state.running & state.good, key=key,
        )  # fmt: skip
        mean = self.ratio(nets, self.reco, self.level)
        norm = _log_norm(top, prior, mean[:, self.rows.both])
        return self._capped(mean + norm[:, None], _log_total(top, prior, norm))

    def _keys(self, iteration: Array) -> Array:
        return jax.random.split(jax.random.fold_in(self.key_run, iteration), 3)


class _Split:
    """Rows divided once into training and held-out rows; masked rows have zero weight."""

    def __init__(
        self, x: Array, held: Array, settings: Settings, level: Array | None = None
    ) -> None:
        # the numbers of rows must be static: the held-out ones come first in this order
        count = max(1, round(len(held) * settings.held_out))
        order = jnp.argsort(~held, stable=True)
        self.held, self.train = order[:count], order[count:]
        self.x, self.level = x, level

    def rows(self, above: Array, below: Array) -> tuple[Rows, Rows]:
        axis = 0 if self.level is None else 1
        return tuple(
            Rows(jnp.take(self.x, part, axis=axis), above[:, part], below[:, part], self.level)
            for part in (self.train, self.held)
        )  # pyright: ignore[reportReturnType]


def _log_norm(above: Array, below: Array, log: Array) -> Array:
    """Return what to add to ``log`` so that ``below * exp(log)`` has the total of ``above``."""
    # a wild logit must meet the cap, not overflow here
    total = jax.nn.logsumexp(log, b=below, axis=1)
    return (jnp.log(jnp.sum(above, axis=1)) - total).astype(log.dtype)


def _log_total(above: Array, below: Array, like: Array) -> Array:
    """Return the log of the ratio of two totals, in the type of ``like``."""
    ratio = jnp.sum(above, axis=1) / jnp.sum(below, axis=1)
    return jnp.log(ratio).astype(like.dtype)
