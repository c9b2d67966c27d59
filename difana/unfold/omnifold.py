"""OmniFold: all iterations, both steps and all replicas as one compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

from difana._typing import PyTree
from difana.nn import trainable
from difana.train.spread import FIRST, SECOND, spread
from difana.unfold._levels import Indices, Inputs, levels_of
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import Factors, Shifts
from difana.unfold.report import IterationReport, OmniFoldWeights
from difana.unfold.settings import Settings
from difana.unfold.status import UnfoldStatus
from difana.unfold.steps import State, iterated


def omnifold(
    problem: UnfoldingProblem,
    reco_nets: PyTree,
    gen_nets: PyTree,
    settings: Settings,
    *,
    key: Array,
    factors: Factors | None = None,
    shifts: Shifts | None = None,
    devices: Sequence[Any] | None = None,
) -> OmniFoldWeights:
    r"""Run OmniFold for all replicas.

    Step 1 learns :math:`\omega = \nu\, p_{data} / p_{sim}(\nu)` at detector level, step 2 learns
    :math:`\nu = E[\omega \mid truth]` at truth level, against the simulation. Yields are absolute:
    the weights carry the ratio of the yields.

    Args:
        problem: The inputs.
        reco_nets: Networks of step 1, stacked: their trained leaves have a leading axis of
            replicas times ``settings.ensemble``, see ``stacked_nets``.
        gen_nets: The same for step 2.
        settings: How to run.
        key: Random key of the split and of the order of the events.
        factors: Factors on the weights of each replica; None means 1.
        shifts: Versions of the simulation at detector level, of which ``factors.level`` chooses;
            None means that of the problem.
        devices: Devices over which the replicas are spread; None takes the default one. Their
            number must divide the number of replicas.

    Returns:
        The result. A replica that meets a number that is not finite keeps its last good weights and
        says so in its status. Differentiation: reverse and forward mode through the training.

    Raises:
        ConfigError: If a setting has no meaning.
        InputError: If the replicas cannot be spread evenly over the devices.

    References:
        arXiv:1911.09107, equations 4 to 8.
    """
    inputs = prepared(
        problem, reco_nets, gen_nets, settings, key=key, factors=factors, shifts=shifts
    )
    if devices is None:
        return _whole(inputs)
    return _spread(inputs, tuple(devices))


def prepared(
    problem: UnfoldingProblem,
    reco_nets: PyTree,
    gen_nets: PyTree,
    settings: Settings,
    *,
    key: Array,
    factors: Factors | None = None,
    shifts: Shifts | None = None,
) -> Inputs:
    """Return the checked inputs of a run, with the rows that take part in each step."""
    settings.check()
    problem = jax.tree.map(jnp.asarray, problem)
    gen_rows, reco_rows = problem.pass_gen, problem.pass_reco
    if shifts is not None:  # rows that fail in a replica have no weight there
        reco_rows = jnp.any(shifts.pass_reco, axis=0)
    if settings.missed == "learned":
        gen_rows = gen_rows & reco_rows
    fakes = reco_rows & ~problem.pass_gen
    any_fakes = isinstance(fakes, Tracer) or bool(jnp.any(fakes))
    both = _index(problem.pass_gen & reco_rows)
    return Inputs(
        problem, reco_nets, gen_nets, factors or Factors(), key,
        Indices(_index(gen_rows), _index(reco_rows), both), settings,
        any_fakes and settings.fakes == "learned", shifts,
    )  # fmt: skip


def _index(mask: Array) -> Array:
    """Return the rows that pass; all of them (with zero weights) where the mask is traced."""
    if isinstance(mask, Tracer):
        return jnp.arange(len(mask))
    return jnp.asarray(np.flatnonzero(np.asarray(mask)))


def _run(inputs: Inputs) -> OmniFoldWeights:
    return finished(inputs, *iterated(levels_of(inputs)))


def finished(
    inputs: Inputs, state: State, history: Array, report: IterationReport
) -> OmniFoldWeights:
    """Return the result of a run."""
    return OmniFoldWeights(history, report, state.gen, state.log_norm,
                          status_of(inputs.problem, state, report), state.log_scale)  # fmt: skip


def status_of(
    problem: UnfoldingProblem, state: State, report: IterationReport
) -> Int[Array, " replicas"]:
    """Return the status of each replica."""
    many = jnp.max(report.saturated, axis=0) > 1e-3 * jnp.sum(problem.pass_gen)
    status = jnp.where(state.good, 0, int(UnfoldStatus.NOT_FINITE))
    return status | jnp.where(many, int(UnfoldStatus.SATURATED), 0)


@eqx.filter_jit
def _whole(inputs: Inputs) -> OmniFoldWeights:
    return _run(inputs)


@eqx.filter_jit
def _spread(inputs: Inputs, devices: Sequence[Any]) -> OmniFoldWeights:
    parts = lambda i: (i.reco_nets, i.gen_nets, i.factors)  # noqa: E731
    rows = jax.tree.map(lambda _: True, inputs.factors)
    mask = eqx.tree_at(
        parts, jax.tree.map(lambda _: False, inputs),
        (trainable(inputs.reco_nets), trainable(inputs.gen_nets), rows),
    )  # fmt: skip
    own, shared = eqx.partition(inputs, mask)
    return spread(
        lambda own, shared: _run(eqx.combine(own, shared)), own, shared, devices=devices,
        out=OmniFoldWeights(SECOND, SECOND, FIRST, FIRST, FIRST, FIRST),  # pyright: ignore
    )  # fmt: skip
