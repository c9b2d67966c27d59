"""Bootstraps of a flow unfolding: data, simulation and training, as weights of the same draws."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana.flows import Flow, fit_flow_replicas
from difana.ratio import Classes, LogRatios, fit_ratios
from difana.train import Training
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import poisson_factors

_LARGEST = 3.0  # log of the largest weight of a draw: a few draws must not be a replica


class Options(NamedTuple):
    """What the trainings of the replicas share."""

    training: Training
    hidden: tuple[int, ...]
    cap: float
    chunk: int | None


class Simulated(NamedTuple):
    """The simulation of the replicas.

    Attributes:
        factors: Poisson factors on the simulated events, ``[replicas, events]``.
        log_push: Log weights after the iterations so far.
        log_efficiency: Log of the efficiency at truth level; None where nothing is missed.
    """

    factors: Float[Array, "replicas events"]
    log_push: Float[Array, "replicas events"]
    log_efficiency: LogRatios | None


def simulated(
    problem: UnfoldingProblem, bootstraps: int, options: Options, *, key: Array
) -> Simulated:
    """Return bootstrapped simulations with their efficiencies."""
    key_factors, key_efficiency = jax.random.split(key)
    factors = poisson_factors(key_factors, bootstraps, len(problem.gen))
    rows = problem.pass_gen
    above = jnp.where(problem.pass_reco, problem.reco_weights, 0.0)[rows]
    below = problem.gen_weights[rows]
    log_efficiency = None
    if not bool(jnp.all(above == below)):
        drawn = factors[:, rows]
        classes = Classes(problem.gen[rows], above * drawn, below * drawn)
        log_efficiency = _ratios(classes, key_efficiency, options)
    return Simulated(factors, jnp.zeros_like(factors), log_efficiency)


def draw_weights(
    flow: Flow,
    start: Flow,
    problem: UnfoldingProblem,
    one: Simulated,
    draws: Float[Array, "data samples truth"],
    measured: Float[Array, "data reco"],
    options: Options,
    *,
    key: Array,
) -> Float[Array, "replicas data samples"]:
    r"""Return the weight of each draw in the replicas, over that in the nominal unfolding.

    .. math::
        \frac{p_r(z \mid x)}{p(z \mid x)} \frac{1}{\epsilon_r(z)}

    with the flow and the efficiency of a replica trained on its bootstrapped simulation. The draws
    are those of the nominal flow: a replica is a set of weights, as it is for OmniFold.
    """
    both = problem.pass_gen & problem.pass_reco
    gen, reco = (part[both].astype(jnp.float32) for part in (problem.gen, problem.reco))
    weights = (problem.reco_weights * jnp.exp(one.log_push) * one.factors)[:, both]
    found = fit_flow_replicas(
        start, gen, reco, weights, key=key, training=options.training, chunk=options.chunk
    )
    flat = draws.reshape(-1, draws.shape[-1])
    given = jnp.repeat(measured.astype(jnp.float32), draws.shape[1], axis=0)
    log = found.each(flat, given) - _log_prob(flow, flat, given)
    log = jnp.clip(log, -_LARGEST, _LARGEST)
    if one.log_efficiency is not None:
        log = log - jnp.clip(one.log_efficiency(flat), -options.cap, options.cap)
    return jnp.exp(log).reshape(len(log), *draws.shape[:2])


def pushed(
    problem: UnfoldingProblem,
    one: Simulated,
    draws: Float[Array, "draws truth"],
    weights: Float[Array, "replicas draws"],
    options: Options,
    *,
    key: Array,
) -> Simulated:
    """Return the simulations reweighted to the unfolded samples of the replicas."""
    rows = problem.pass_gen
    gen = problem.gen[rows].astype(jnp.float32)
    prior = (problem.gen_weights * one.factors)[:, rows]
    classes = Classes(
        jnp.concatenate([draws, gen]),
        jnp.concatenate([weights, jnp.zeros_like(prior)], axis=1),
        jnp.concatenate([jnp.zeros_like(weights), prior], axis=1),
    )
    log = jnp.clip(_ratios(classes, key, options)(problem.gen), -options.cap, options.cap)
    return one._replace(log_push=jnp.where(rows, log, 0.0))


def _ratios(classes: Classes, key: Array, options: Options) -> LogRatios:
    return fit_ratios(
        classes, key=key, training=options.training, hidden=options.hidden, chunk=options.chunk
    ).log_ratios


@eqx.filter_jit
def _log_prob(flow: Flow, x: Array, given: Array) -> Array:
    return flow.log_prob(x, given)
