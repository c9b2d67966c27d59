"""Unfolded weights as functions of nuisance parameters, and their profile fit without a grid."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from difana._errors import InputError
from difana.unfold._given import enough_events
from difana.unfold._levels import Inputs, levels_of
from difana.unfold._precision import centred, moved
from difana.unfold.fit_omnifold import MakeNet, start_nets
from difana.unfold.omnifold import prepared
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.settings import Settings
from difana.unfold.steps import detector_ratio, detector_step, detector_weights, iterated

ProblemAt = Callable[[Float[Array, " params"]], UnfoldingProblem]


class NuisanceWeights(eqx.Module):
    r"""Unfolded weights at a point of the nuisance parameters, with their derivative.

    Attributes:
        theta: The point.
        log_weights: Log of unfolded over simulated weight, ``[events]``.
        derivative: :math:`\partial \log w / \partial \theta`, ``[events, params]``.
        divergence: What still tells data from unfolded simulation at detector level, an estimate of
            the Kullback-Leibler divergence (nats an event).
        gradient: Its derivative, ``[params]``.
        information: Information of one event on the parameters, with the spectrum unfolded anew at
            each value of them.
        events: Effective number of events: harmonic sum of those of data and simulation.
    """

    theta: Float[Array, " params"]
    log_weights: Float[Array, " events"]
    derivative: Float[Array, "events params"]
    divergence: Float[Array, ""]
    gradient: Float[Array, " params"]
    information: Float[Array, "params params"]
    events: Float[Array, ""]

    def at(self, theta: Float[ArrayLike, " params"]) -> Float[Array, " events"]:
        """Return unfolded over simulated weights at another point, log-linear in the parameters."""
        return jnp.exp(self.log_weights + self.derivative @ (jnp.asarray(theta) - self.theta))


class NuisanceFit(eqx.Module):
    """A profile fit of nuisance parameters.

    Attributes:
        theta: Best values.
        covariance: Their covariance, from statistics of data and simulation and from the priors.
        weights: The unfolded weights there.
        path: The points visited, ``[steps, params]``.
        converged: True if the last step was below the tolerance.
    """

    theta: Float[Array, " params"]
    covariance: Float[Array, "params params"]
    weights: NuisanceWeights
    path: Float[Array, "steps params"]
    converged: Bool[Array, ""]


def nuisance_weights(
    problem_at: ProblemAt,
    theta: Float[ArrayLike, " params"],
    *,
    key: PRNGKeyArray,
    settings: Settings = Settings(),
    gen_net: MakeNet | None = None,
    reco_net: MakeNet | None = None,
) -> NuisanceWeights:
    r"""Return the unfolded weights and their derivative with respect to nuisance parameters.

    The derivative goes through all iterations and both trainings (forward mode): it is that of
    retraining with the same key at a shifted value. The gain of the final classifier :math:`f`,

    .. math::
        D(\theta) = E_{data}[f] - \log E_{\nu(\theta)}[e^f],

    is a Donsker-Varadhan estimate of the divergence of the data from the best unfolding at
    :math:`\theta`, so its derivative is that of the profile likelihood.

    Args:
        problem_at: The inputs as a function of the parameters: reco observables or weights
            that move with them. Data and masks must not.
        theta: The point, ``[params]``.
        key: Random key.
        settings: How OmniFold runs.
        gen_net: Network of step 2, see ``fit_omnifold``.
        reco_net: Network of step 1.

    References:
        Donsker, Varadhan (1975); profile of unfolding over nuisance parameters: arXiv:2302.05390,
        arXiv:2409.10421.
    """
    nets = {"gen_net": gen_net, "reco_net": reco_net}
    return _at(*_inputs(problem_at, theta, settings, key=key, **nets))


def fit_nuisance(
    problem_at: ProblemAt,
    theta: Float[ArrayLike, " params"],
    *,
    key: PRNGKeyArray,
    settings: Settings = Settings(),
    gen_net: MakeNet | None = None,
    reco_net: MakeNet | None = None,
    prior: Float[ArrayLike, " params"] | None = None,
    sigma: Float[ArrayLike, " params"] | None = None,
    steps: int = 10,
    tolerance: float = 0.1,
) -> NuisanceFit:
    r"""Fit nuisance parameters together with the unfolded spectrum.

    Scoring steps :math:`\theta \leftarrow \theta - I^{-1} D'` on the divergence of
    ``nuisance_weights``, halved while it rises: no grid, one unfolding a step.

    Args:
        problem_at: The inputs as a function of the parameters.
        theta: Where to start.
        key: Random key.
        settings: How OmniFold runs.
        gen_net: Network of step 2, see ``fit_omnifold``.
        reco_net: Network of step 1.
        prior: Centres of Gaussian constraints; None means ``theta``.
        sigma: Their widths; None means no constraint.
        steps: Largest number of unfoldings.
        tolerance: Stop at a step below this many standard deviations.

    Returns:
        The fit. The covariance counts the statistics of data and simulation; a nuisance
        parameter to which the data are blind has a huge one unless it is constrained.

    Raises:
        InputError: If the parameters are no row of finite numbers.
    """
    nets = {"gen_net": gen_net, "reco_net": reco_net}
    inputs, start, problem_at = _inputs(problem_at, theta, settings, key=key, **nets)
    centre = start if prior is None else jnp.asarray(prior, float)
    precision = jnp.zeros_like(start) if sigma is None else 1 / jnp.asarray(sigma, float) ** 2

    def value(found: NuisanceWeights) -> tuple[Array, Array, Array]:
        """Return n D + penalty, its gradient and its expected curvature."""
        pull = found.theta - centre
        return (
            found.events * found.divergence + 0.5 * jnp.sum(precision * pull**2),
            found.events * found.gradient + precision * pull,
            found.events * found.information + jnp.diag(precision),
        )

    here, path, converged = _at(inputs, start, problem_at), [start], False
    loss, gradient, curvature = value(here)
    move = -jnp.linalg.solve(curvature, gradient)
    for _ in range(steps - 1):
        trial = _at(inputs, here.theta + move, problem_at)
        path.append(trial.theta)
        new, *rest = value(trial)
        if not bool(new < loss + 1):  # rises by more than noise: one unit is one sigma squared
            move = 0.5 * move
            continue
        here, loss, (gradient, curvature) = trial, new, rest
        move = -jnp.linalg.solve(curvature, gradient)
        if bool(move @ curvature @ move < tolerance**2):
            converged = True
            break
    return NuisanceFit(
        here.theta, jnp.linalg.inv(curvature), here, jnp.stack(path), jnp.asarray(converged)
    )


def _inputs(
    problem_at: ProblemAt,
    theta: Float[ArrayLike, " params"],
    settings: Settings,
    *,
    key: Array,
    **nets: MakeNet | None,
) -> tuple[Inputs, Array, ProblemAt]:
    point = jnp.asarray(theta, float)
    if point.ndim != 1 or not np.isfinite(np.asarray(point)).all():
        raise InputError(f"theta = {theta}: give a row of finite numbers")
    enough_events(problem_at(point))
    problem, origin = centred(problem_at(point))
    near = (lambda theta: moved(problem_at(theta), origin)) if origin.moves else problem_at
    started, run = start_nets(problem, np.arange(1), key=key, ensemble=settings.ensemble, **nets)
    return prepared(problem, *started, settings, key=run), point, near


@eqx.filter_jit
def _at(inputs: Inputs, theta: Array, problem_at: ProblemAt) -> NuisanceWeights:
    def run(theta: Array) -> tuple[tuple, tuple]:
        moved = eqx.tree_at(lambda i: i.problem, inputs, problem_at(theta))
        levels = levels_of(moved)
        points = jax.lax.stop_gradient(levels.reco)
        state = iterated(levels)[0]
        log_push = state.log_push[0]
        last = detector_step(levels, state, jnp.asarray(moved.settings.iterations))

        def f(x: Array) -> Array:
            return detector_ratio(levels, last.reco, x)[0].astype(levels.gen_weights.dtype)

        data, sim = detector_weights(levels, state)
        gain = jnp.sum(data * f(levels.measured.x)) / jnp.sum(data)
        gain -= jnp.log(jnp.sum(sim * jnp.exp(f(levels.reco))) / jnp.sum(sim))
        found = log_push, gain, f(points)
        return found, (found, data, sim)

    # forward mode: one pass a parameter, nothing of the training is stored
    (derivative, gradient, score), aux = jax.jacfwd(run, has_aux=True)(theta)
    (log_push, gain, _), data, sim = aux
    mean = sim @ score / jnp.sum(sim)
    information = (score.T * sim) @ score / jnp.sum(sim) - mean[:, None] * mean
    sizes = [jnp.sum(part) ** 2 / jnp.sum(part**2) for part in (data, sim)]
    events = 1 / (1 / sizes[0] + 1 / sizes[1])
    return NuisanceWeights(theta, log_push, derivative, gain, gradient, information, events)
