"""Unfolding by a conditional flow: posterior samples of each event, and its iterative version."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from difana._errors import InputError, ModelError
from difana._options import real_number, whole_number
from difana.flows import coupling_flow, fit_flow
from difana.ratio import RatioRows, fit_ratio
from difana.train import Training
from difana.unfold._flow_replicas import Options, draw_weights, pushed, simulated
from difana.unfold._given import enough_events, far_events, to_scale, without_far
from difana.unfold._precision import centred
from difana.unfold.flow_result import FlowUnfoldingResult, back, drawn
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import poisson_factors
from difana.unfold.status import UnfoldStatus

FLOW_TRAINING = Training(average=0.99)
"""How flows and their classifiers are trained unless it is said otherwise."""


def fit_flow_unfolding(
    problem: UnfoldingProblem,
    *,
    key: PRNGKeyArray,
    iterations: int = 1,
    samples: int = 10,
    training: Training = FLOW_TRAINING,
    layers: int = 4,
    bins: int = 8,
    hidden: Sequence[int] = (64, 64),
    cap: float = 10.0,
    bootstraps: int = 0,
    retrain: bool = True,
    chunk: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress_bar: bool = False,
) -> FlowUnfoldingResult:
    r"""Unfold without bins by :math:`p(truth \mid reco)`.

    A conditional flow learns the posterior of the truth of a reconstructed event from simulation.
    The unfolded sample is drawn from it event by event,

    .. math::
        n(z) = \frac{1}{\epsilon(z)} \sum_d w_d\, p(z \mid x_d)

    with background and simulated fakes as events of negative weight, and the efficiency
    :math:`\epsilon(z)` learned by a classifier where events are missed. One iteration depends on
    the simulated truth as one iteration of D'Agostini's method does; further iterations reweight
    the simulation to the unfolded sample and train again.

    Args:
        problem: The inputs, see ``difana.unfold.unfolding_problem``.
        key: Random key of everything.
        iterations: Number of iterations.
        samples: Truth-level draws of each measured event.
        training: Options of each training, of flows and of classifiers. By default the average of
            the weights counts: the noise of the last steps would be larger than all other errors.
        layers: Coupling layers of the flow.
        bins: Bins of each spline.
        hidden: Widths of the hidden layers of all networks.
        cap: Largest absolute log weight of the simulation, and of the efficiency.
        bootstraps: Number of replicas with Poisson factors on measured and simulated events.
        retrain: Train flow and classifiers of each replica on its simulation, from networks of its
            own, all in one program: the replicas then hold the statistics of data and simulation
            and the training. False: Poisson factors on the measured events alone, at no cost.
        chunk: Replicas trained side by side; the result does not depend on it.
        checkpoint: Folder: an interrupted training of a flow continues there.
        progress_bar: Show a bar for each training of the flow.

    Returns:
        The flow and the unfolded events.

    Raises:
        ConfigError: If a setting has no meaning.
        InputError: If the observables are particles, not columns, or there are too few events.
        ModelError: If a training diverges or the classifiers meet a number not finite.

    Warns:
        UserWarning: For broken events, columns that are constant or follow from others, and
            weights of another scale than the data, see ``fit_omnifold``. The status says so.

    References:
        arXiv:2006.06685 (cINN); arXiv:2212.08674 (iterations); arXiv:2509.02708 (efficiency,
        fakes).
    """
    whole_number("iterations", iterations)
    whole_number("samples", samples)
    whole_number("bootstraps", bootstraps, least=0)
    real_number("cap", cap, above=0)
    _columns_only(problem)
    enough_events(problem)
    given, flags = problem, far_events(problem)
    problem, origin = centred(problem)
    problem, _ = without_far(problem)
    problem, log_scale = to_scale(problem)
    both = problem.pass_gen & problem.pass_reco
    gen, reco = (part[both].astype(jnp.float32) for part in (problem.gen, problem.reco))
    measured, signed = _measured(problem)
    keys = jax.random.split(key, 3 + iterations)

    def log_ratio(rows: RatioRows, key: Array):
        return fit_ratio(rows, key=key, training=training, hidden=hidden).log_ratio

    efficiency = _efficiency_rows(problem)
    log_efficiency = (lambda z: jnp.zeros(len(z))) if efficiency is None else log_ratio(
        efficiency, keys[0]
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        flow = coupling_flow(
            gen, reco, key=keys[1], bins=bins, layers=layers, hidden=tuple(hidden),
            weights=problem.reco_weights[both], names=problem.names,
        )  # fmt: skip
    if flow.dropped:
        warnings.warn(str(caught[-1].message), stacklevel=2)
        flags |= int(UnfoldStatus.DEPENDENT)
    if log_scale:
        flags |= int(UnfoldStatus.OTHER_SCALE)
    options = Options(training, tuple(hidden), cap, chunk)
    start, key_replicas = flow, jax.random.split(jax.random.fold_in(keys[2], 1), 1 + 2 * iterations)
    factors = poisson_factors(keys[2], bootstraps, len(measured))[:, :, None]
    others, replicas = None, factors if bootstraps else None
    if bootstraps and retrain:
        others = simulated(problem, bootstraps, options, key=key_replicas[0])
    log_push = jnp.zeros(len(problem.gen))
    history, draws, weights = [], measured, signed
    for iteration in range(iterations):
        key_fit, key_draw, key_ratio = jax.random.split(keys[3 + iteration], 3)
        found = fit_flow(
            flow, gen, reco, weights=problem.reco_weights[both] * jnp.exp(log_push[both]),
            key=key_fit, training=training,
            checkpoint=None if checkpoint is None else Path(checkpoint) / f"flow_{iteration}",
            progress_bar=progress_bar,
        )  # fmt: skip
        if not found.ok:
            raise ModelError(f"iteration {iteration}: {found.message}")
        flow = found.flow
        draws = drawn(flow, measured.astype(jnp.float32), key_draw, samples)
        flat = draws.reshape(-1, draws.shape[-1])
        lost = jnp.clip(log_efficiency(flat), -cap, cap)
        weights = signed[:, None] / samples * jnp.exp(-lost).reshape(draws.shape[:2])
        if others is not None:
            key_flow, key_push = key_replicas[1 + 2 * iteration :][:2]
            over = draw_weights(
                flow, start, problem, others, draws, measured, options, key=key_flow
            )
            replicas = factors * over * jnp.exp(lost).reshape(draws.shape[:2])
            if iteration + 1 < iterations:
                own = (replicas * weights).reshape(bootstraps, -1)
                others = pushed(problem, others, flat, own, options, key=key_push)
        if iteration + 1 < iterations:
            ratio = log_ratio(_push_rows(problem, flat, weights.ravel()), key_ratio)
            inside = problem.pass_gen
            log_push = jnp.where(inside, jnp.clip(ratio(problem.gen), -cap, cap), 0.0)
            history.append(jnp.where(inside, log_push + log_scale, 0.0))
    return FlowUnfoldingResult(
        flow, back(draws, origin), weights, replicas,
        jnp.stack(history) if history else jnp.zeros((0, len(problem.gen))), given, origin, flags,
    )  # fmt: skip


def _columns_only(problem: UnfoldingProblem) -> None:
    for name in ("gen", "reco"):
        shape = getattr(problem, name).shape
        if len(shape) != 2:
            raise InputError(
                f"{name} has shape {shape}: the flow takes [events, observables], not particles"
            )


def _measured(problem: UnfoldingProblem) -> tuple[Array, Array]:
    """Return data, background and fakes with weights +, -, -."""
    parts, weights = [problem.data], [problem.data_weights]
    if problem.background is not None and problem.background_weights is not None:
        parts.append(problem.background)
        weights.append(-problem.background_weights)
    fakes = problem.pass_reco & ~problem.pass_gen
    if bool(jnp.any(fakes)):
        parts.append(problem.reco[fakes])
        weights.append(-problem.reco_weights[fakes])
    return jnp.concatenate(parts), jnp.concatenate(weights)


def _efficiency_rows(problem: UnfoldingProblem) -> RatioRows | None:
    """Return the yields at detector level and at truth level; None if they are the same."""
    rows = problem.pass_gen
    above = jnp.where(problem.pass_reco, problem.reco_weights, 0.0)[rows]
    below = problem.gen_weights[rows]
    return None if bool(jnp.all(above == below)) else RatioRows(problem.gen[rows], above, below)


def _push_rows(problem: UnfoldingProblem, draws: Array, weights: Array) -> RatioRows:
    """Return the unfolded sample over the simulation at truth level."""
    rows = problem.pass_gen
    gen = problem.gen[rows].astype(jnp.float32)
    return RatioRows(
        jnp.concatenate([draws, gen]),
        jnp.concatenate([weights, jnp.zeros(len(gen))]),
        jnp.concatenate([jnp.zeros(len(draws)), problem.gen_weights[rows]]),
    )
