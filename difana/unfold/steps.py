"""The two half steps of OmniFold for all replicas, as pure functions of a state."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from difana._typing import PyTree
from difana.nn import trainable
from difana.ratio import ClassifyReport, classify, evaluate, log_mean
from difana.unfold._fold import binned_sums, chi2_per_bin
from difana.unfold._levels import Levels, Split
from difana.unfold.report import IterationReport, summary

_RECO, _GEN = 0, 1


class State(NamedTuple):
    """What one half step hands on to the next.

    Attributes:
        log_push: Log weights of step 2, ``[replicas, events]``.
        log_pull: Log weights of step 1.
        log_fakes: Log weights of the fakes.
        log_data: Log factors on the data that stand for the background.
        reco: Trained leaves of the networks of step 1.
        gen: Those of step 2.
        log_norm: Added to the log of the mean ratio of step 2.
        log_scale: Log of the ratio of the yields in it.
        good: False for a replica that met a number that is not finite.
        running: False for one that met the stopping rule.
        one: Report of step 1.
    """

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
    one: ClassifyReport


def start_state(levels: Levels) -> State:
    """Return the state before the first iteration."""
    replicas, dtype = levels.count, levels.dtype
    push = jnp.zeros((replicas, len(levels.gen)), dtype)
    log_data = jnp.zeros((), dtype)
    good = jnp.ones(replicas, bool)
    if levels.background is not None and levels.settings.background == "reweight":
        log_data, good = _positive_data(levels)
    none = jnp.zeros(replicas, jnp.int32)
    nothing = ClassifyReport(jnp.zeros(replicas, dtype), none, none)
    return State(
        push, push, push if levels.learn_fakes else jnp.zeros((), dtype), log_data, *levels.start,
        jnp.zeros(replicas, dtype), jnp.zeros(replicas, dtype), good,
        jnp.ones(replicas, bool), nothing,
    )  # fmt: skip


def detector_step(levels: Levels, state: State, iteration: Array) -> State:
    r"""Return the state after step 1: pull weights at detector level.

    A classifier of data against the simulation of the last push weights :math:`\nu` learns
    :math:`\omega(x) = \nu\, p_{data}(x) / p_{sim(\nu)}(x)`.
    """
    key_fit, _, key_fakes = levels.keys(iteration)
    fakes = state.log_fakes
    if levels.learn_fakes:
        fakes = jax.lax.cond(iteration > 0, lambda: _fakes(levels, state, key_fakes), lambda: fakes)
    push = jnp.where(levels.problem.pass_gen, state.log_push, fakes)
    now = (levels.reco_weights * jnp.exp(push))[:, levels.rows.reco]
    above = [jnp.zeros_like(now), levels.data_weights * jnp.exp(state.log_data)]
    below = [now, jnp.zeros_like(levels.data_weights)]
    background, treatment = levels.background, levels.settings.background
    if background is not None and treatment != "reweight":
        nothing = jnp.zeros_like(background)
        above.append(-background if treatment == "subtract" else nothing)
        below.append(nothing if treatment == "subtract" else background)
    top, bottom = jnp.concatenate(above, 1), jnp.concatenate(below, 1)
    start = state.reco if levels.settings.warm_start else levels.start[_RECO]
    nets, report = _train(levels, _RECO, start, levels.reco_split, top, bottom, key_fit, state)
    ratio = detector_ratio(levels, nets, levels.reco, levels.level)
    weighted, logs = now, ratio[:, levels.rows.reco]
    if background is not None and treatment == "add":
        other = levels.problem.background.astype(levels.dtype)  # pyright: ignore
        weighted = jnp.concatenate([weighted, background], 1)
        logs = jnp.concatenate([logs, detector_ratio(levels, nets, other)], 1)
    norm = _log_norm(top, weighted, logs)
    ratio = _capped(levels, ratio + norm[:, None], _log_total(top, weighted, norm))
    pull = jnp.where(levels.both, state.log_push + ratio, state.log_push)
    return state._replace(log_pull=pull, log_fakes=fakes, reco=nets, one=report)


def truth_step(
    levels: Levels, state: State, before: PyTree, iteration: Array
) -> tuple[State, IterationReport]:
    r"""Return the state after step 2 (push weights at truth level) and the report.

    A classifier of the simulation with pull weights against the simulation learns
    :math:`\nu(z) = E[\omega \mid z]`.

    Args:
        levels: The levels.
        state: The state after step 1.
        before: Networks of step 1 before this iteration, kept where a number is not finite.
        iteration: Number of the iteration.
    """
    settings, fiducial, rows = levels.settings, levels.problem.pass_gen, levels.rows.gen
    _, key_fit, _ = levels.keys(iteration)
    prior = levels.seen_weights[:, rows]
    top = prior * jnp.exp(state.log_pull[:, rows])
    start = state.gen if settings.warm_start else levels.start[_GEN]
    nets, two = _train(levels, _GEN, start, levels.gen_split, top, prior, key_fit, state)
    push = _log_ratio(levels, _GEN, nets, levels.gen)
    norm = _log_norm(top, prior, push[:, rows])
    scale = _log_total(top, prior, norm)
    push = jnp.where(fiducial, _capped(levels, push + norm[:, None], scale), 0.0)
    good = state.good & state.one.finite & two.finite & jnp.all(jnp.isfinite(push), axis=1)
    use = good & state.running

    def keep(a: Array, b: Array) -> Array:
        chosen = use if len(a) == levels.count else jnp.repeat(use, settings.ensemble)
        return jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    new = jax.tree.map(
        keep, (push, state.reco, nets, norm, scale),
        (state.log_push, before, state.gen, state.log_norm, state.log_scale),
    )  # fmt: skip
    facts = summary(new[0], state.log_push, levels.gen_weights, fiducial, settings.cap, new[4])
    ran = state.running
    running = ran & ~(facts[3] < settings.tolerance)
    weights = levels.reco_weights * jnp.exp(jnp.where(fiducial, new[0], state.log_fakes))
    simulated = binned_sums(levels.index, weights, levels.bins, levels.level)
    report = IterationReport(
        *facts, chi2_per_bin(levels.folded, simulated),
        jnp.stack([state.one.loss, two.loss], -1),
        jnp.stack([state.one.epochs, two.epochs], -1), good, ran,
    )  # fmt: skip
    state = state._replace(
        log_push=new[0], reco=new[1], gen=new[2], log_norm=new[3], log_scale=new[4],
        good=good, running=running,
    )  # fmt: skip
    return state, report


def iterated(levels: Levels) -> tuple[State, Array, IterationReport]:
    """Return the state after all iterations, the log weights and the report of each."""

    def iterate(state: State, iteration: Array) -> tuple[State, tuple[Array, IterationReport]]:
        middle = detector_step(levels, state, iteration)
        state, report = truth_step(levels, middle, state.reco, iteration)
        return state, (state.log_push, report)

    steps = jnp.arange(levels.settings.iterations)
    state, (history, report) = jax.lax.scan(iterate, start_state(levels), steps)
    return state, history, report


def detector_ratio(levels: Levels, nets: PyTree, x: Array, level: Array | None = None) -> Array:
    """Return the log ratio of networks of step 1, up to a constant, ``[replicas, rows]``."""
    return _log_ratio(levels, _RECO, nets, x, level)


def detector_weights(levels: Levels, state: State) -> tuple[Array, Array]:
    """Return weights of the first replica: of the ``measured`` rows, of the simulation."""
    data = levels.data_weights[0]
    if levels.background is not None:
        data = jnp.concatenate([data, -levels.background[0]])
    push = jnp.where(levels.problem.pass_gen, state.log_push, state.log_fakes)
    return data, (levels.reco_weights * jnp.exp(push))[0]


def _positive_data(levels: Levels) -> tuple[Array, Array]:
    """Return log factors on the data that stand for the background, and whether finite."""
    data, background = levels.data_weights, jnp.asarray(levels.background)
    top = jnp.concatenate([data, -background], 1)
    bottom = jnp.concatenate([data, jnp.zeros_like(background)], 1)
    nets, report = _train(
        levels, _RECO, levels.start[_RECO], levels.measured, top, bottom, levels.key_start
    )
    log = detector_ratio(levels, nets, levels.measured.x[: data.shape[1]])
    return log + _log_norm(top, data, log)[:, None], report.finite


def _fakes(levels: Levels, state: State, key: Array) -> Array:
    """Return log E[push | reco], the weight of a fake that looks like this event."""
    rows = levels.rows.both
    prior = levels.reco_weights[:, rows]
    top = prior * jnp.exp(state.log_push[:, rows])
    nets, _ = _train(levels, _RECO, levels.start[_RECO], levels.both_split, top, prior, key, state)
    mean = detector_ratio(levels, nets, levels.reco, levels.level)
    norm = _log_norm(top, prior, mean[:, rows])
    return _capped(levels, mean + norm[:, None], _log_total(top, prior, norm))


def _train(
    levels: Levels, side: int, start: PyTree, rows: Split, above: Array, below: Array, key: Array,
    state: State | None = None,
) -> tuple[PyTree, ClassifyReport]:  # fmt: skip
    """Return trained leaves of the networks of one side, and the report."""
    settings = levels.settings
    nets, report = classify(
        eqx.combine(start, levels.static[side]), *rows.classes(above, below), key=key,
        training=settings.training, members=settings.ensemble,
        active=None if state is None else state.running & state.good,
    )  # fmt: skip
    return eqx.filter(nets, trainable(nets)), report


def _log_ratio(
    levels: Levels, side: int, leaves: PyTree, x: Array, level: Array | None = None
) -> Array:
    members = levels.settings.ensemble
    level = None if level is None else jnp.repeat(level, members)
    return log_mean(evaluate(eqx.combine(leaves, levels.static[side]), x, level), members)


def _capped(levels: Levels, log: Array, norm: Array) -> Array:
    """Return log weights whose shape is capped: what all events share is not counted."""
    norm, cap = jax.lax.stop_gradient(norm)[:, None], levels.settings.cap
    return norm + jnp.clip(log - norm, -cap, cap)


def _log_norm(above: Array, below: Array, log: Array) -> Array:
    """Return what to add to ``log`` so that ``below * exp(log)`` has the total of ``above``."""
    # a wild logit must meet the cap, not overflow here
    total = jax.nn.logsumexp(log, b=below, axis=1)
    return (jnp.log(jnp.sum(above, axis=1)) - total).astype(log.dtype)


def _log_total(above: Array, below: Array, like: Array) -> Array:
    """Return the log of the ratio of two totals, in the type of ``like``."""
    ratio = jnp.sum(above, axis=1) / jnp.sum(below, axis=1)
    return jnp.log(ratio).astype(like.dtype)
