"""Unfolding by a conditional flow: posterior samples of each event, and its iterative version."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from difana._errors import InputError, ModelError
from difana._options import real_number, whole_number
from difana.flows import SplineFlow, fit_flow, spline_flow
from difana.train import Training
from difana.unfold._given import enough_events, far_events, to_scale, without_far
from difana.unfold._precision import Origin, centred, held, shifted
from difana.unfold.log_ratio import LogRatio, log_ratio
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import poisson_factors
from difana.unfold.result import UnfoldedEvents
from difana.unfold.status import UnfoldStatus


class FlowUnfolding(eqx.Module):
    r"""Unbinned unfolding by :math:`p(truth \mid reco)`; frozen: ``fit`` returns a fitted copy.

    A conditional flow learns the posterior of the truth of a reconstructed event from simulation.
    The unfolded sample is drawn from it event by event,

    .. math::
        n(z) = \frac{1}{\epsilon(z)} \sum_d w_d\, p(z \mid x_d)

    with background and simulated fakes as events of negative weight, and the efficiency
    :math:`\epsilon(z)` learned by a classifier where events are missed. One iteration depends on
    the simulated truth as one iteration of D'Agostini's method does; further iterations reweight
    the simulation to the unfolded sample and train again.

    Attributes:
        iterations: Number of iterations (static, as all the following).
        samples: Truth-level draws of each measured event.
        layers: Coupling layers of the flow.
        bins: Bins of each spline.
        hidden: Widths of the hidden layers of all networks.
        epochs: Largest number of epochs of a training.
        batch_size: Events in a batch; None: a 64th of the training events, between 128 and 2048.
        learning_rate: That of Adam.
        patience: Epochs without improvement on held-out events after which a training ends.
        cap: Largest absolute log weight of the simulation, and of the efficiency.
        bootstraps: Poisson replicas of the measured events. The flow is not trained again: they
            hold the statistics of the data, not those of the simulation.
        flow: The trained flow; None before ``fit``.
        draws: Unfolded events, ``[data, samples, truth]``.
        weights: Their weights, ``[data, samples]``, and those of their replicas.
        log_weights: Log weights of the simulated events after all iterations but the last one.

    Example:
        >>> model = FlowUnfolding(iterations=2)
        >>> model.iterations, model.flow is None
        (2, True)

    References:
        arXiv:2006.06685 (cINN); arXiv:2212.08674 (iterations); arXiv:2509.02708 (efficiency,
        fakes).
    """

    iterations: int = eqx.field(static=True, default=1)
    samples: int = eqx.field(static=True, default=10)
    layers: int = eqx.field(static=True, default=4)
    bins: int = eqx.field(static=True, default=8)
    hidden: tuple[int, ...] = eqx.field(static=True, default=(64, 64))
    epochs: int = eqx.field(static=True, default=30)
    batch_size: int | None = eqx.field(static=True, default=None)
    learning_rate: float = eqx.field(static=True, default=2e-3)
    patience: int = eqx.field(static=True, default=5)
    cap: float = eqx.field(static=True, default=10.0)
    bootstraps: int = eqx.field(static=True, default=0)
    flow: SplineFlow | None = None
    draws: Float[Array, "data samples truth"] | None = None
    weights: Float[Array, "data samples"] | None = None
    replicas: Float[Array, "replicas data"] | None = None
    log_weights: Float[Array, "iterations events"] | None = None
    problem: UnfoldingProblem | None = None
    origin: Origin | None = None
    flags: int = eqx.field(static=True, default=0)

    def fit(
        self,
        problem: UnfoldingProblem,
        *,
        key: PRNGKeyArray,
        checkpoint: str | os.PathLike[str] | None = None,
        progress_bar: bool = False,
    ) -> FlowUnfolding:
        """Return a fitted copy.

        Args:
            problem: The inputs, see ``difana.unfold.unfolding_problem``.
            key: Random key of everything.
            checkpoint: Folder: an interrupted training of a flow continues there.
            progress_bar: Show a bar for each training of the flow.

        Raises:
            ConfigError: If a setting has no meaning.
            InputError: If the observables are particles, not columns, or there are too few events.
            ModelError: If a training diverges or the classifiers meet a number not finite.

        Warns:
            UserWarning: For broken events, columns that are constant or follow from others, and
                weights of another scale than the data, see ``OmniFold.fit``. The status says so.
        """
        self._check(problem)
        enough_events(problem)
        whole, flags = problem, far_events(problem)
        problem, origin = centred(problem)
        problem, _ = without_far(problem)
        problem, log_scale = to_scale(problem)
        both = problem.pass_gen & problem.pass_reco
        gen, reco = (part[both].astype(jnp.float32) for part in (problem.gen, problem.reco))
        measured, signed = _measured(problem)
        keys = jax.random.split(key, 3 + self.iterations)
        efficiency = self._efficiency(problem, keys[0])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            flow = spline_flow(
                gen, reco, key=keys[1], bins=self.bins,
                layers=self.layers, hidden=self.hidden, weights=problem.reco_weights[both],
                names=problem.names,
            )  # fmt: skip
        if flow.dropped:
            warnings.warn(str(caught[-1].message), stacklevel=3)
            flags |= int(UnfoldStatus.DEPENDENT)
        if log_scale:
            flags |= int(UnfoldStatus.OTHER_SCALE)
        log_push = jnp.zeros(len(problem.gen))
        history, draws, weights = [], None, None
        for iteration in range(self.iterations):
            key_fit, key_draw, key_ratio = jax.random.split(keys[3 + iteration], 3)
            found = fit_flow(
                flow, gen, reco, weights=problem.reco_weights[both] * jnp.exp(log_push[both]),
                key=key_fit, training=self._training(),
                checkpoint=None if checkpoint is None else Path(checkpoint) / f"flow_{iteration}",
                progress_bar=progress_bar,
            )  # fmt: skip
            if found.training.status == "diverged":
                raise ModelError(f"iteration {iteration}: {found.training.message}")
            flow = found.flow
            draws = _sample(flow, measured.astype(jnp.float32), key_draw, self.samples)
            flat = draws.reshape(-1, draws.shape[-1])
            log_efficiency = jnp.clip(efficiency(flat), -self.cap, self.cap)
            weights = signed[:, None] / self.samples
            weights = weights * jnp.exp(-log_efficiency).reshape(draws.shape[:2])
            if iteration + 1 < self.iterations:
                log_push = self._push(problem, flat, weights.ravel(), key_ratio)
                history.append(jnp.where(problem.pass_gen, log_push + log_scale, 0.0))
        replicas = None
        if self.bootstraps:
            replicas = poisson_factors(keys[2], self.bootstraps, len(measured))
        return eqx.tree_at(
            lambda m: (m.flow, m.draws, m.weights, m.replicas, m.log_weights, m.problem, m.origin),
            dataclasses.replace(self, flags=flags),
            (flow, None if draws is None else _back(draws, origin), weights, replicas,
             jnp.stack(history) if history else jnp.zeros((0, len(problem.gen))), whole, origin),
            is_leaf=lambda node: node is None,
        )  # fmt: skip

    def sample(
        self, reco: Float[ArrayLike, "events reco"], *, key: PRNGKeyArray, samples: int = 100
    ) -> Float[Array, "events samples truth"]:
        """Return draws from the posterior of the truth of each event.

        Args:
            reco: Detector-level observables.
            key: Random key; the draws of event ``i`` depend on ``key`` and ``i`` only.
            samples: Draws an event.

        Raises:
            InputError: Before ``fit``, or for other columns.
        """
        flow, problem = self._fitted()
        x = reco if isinstance(reco, Array) else np.asarray(reco, float)
        x = x[:, None] if x.ndim == 1 else x
        if x.shape[1:] != problem.reco.shape[1:]:
            raise InputError(f"reco has columns {x.shape[1:]}, the fit {problem.reco.shape[1:]}")
        assert self.origin is not None
        near = shifted(x, self.origin.reco).astype(jnp.float32)
        return _back(_sample(flow, near, key, samples), self.origin)

    def unfolded(self) -> UnfoldedEvents:
        """Return all draws with their weights: background and fakes with negative ones.

        Raises:
            InputError: Before ``fit``.
        """
        _, problem = self._fitted()
        assert self.draws is not None
        assert self.weights is not None
        flat, weights = self.draws.reshape(-1, self.draws.shape[-1]), self.weights.ravel()
        flat = held(flat)
        replicas = {}
        if self.replicas is not None:
            replicas["bootstrap"] = jnp.repeat(self.replicas, self.samples, axis=1) * weights
        finite = jnp.all(jnp.isfinite(flat)) & jnp.all(jnp.isfinite(weights))
        return UnfoldedEvents(
            status=jnp.where(finite, 0, int(UnfoldStatus.NOT_FINITE)) | self.flags,
            observables=flat,
            weights=weights,
            replicas=replicas,
            variations={},
            fiducial=jnp.ones(len(flat), bool),
            names=problem.names,
            units=problem.units,
            metadata=(("method", f"conditional flow, {self.iterations} iterations"),),
        )

    def _efficiency(self, problem: UnfoldingProblem, key: Array) -> LogRatio:
        """Return the log of the yield at detector level over that of truth, at each truth."""
        rows = problem.pass_gen
        above = jnp.where(problem.pass_reco, problem.reco_weights, 0.0)[rows]
        below = problem.gen_weights[rows]
        if bool(jnp.all(above == below)):
            return lambda z: jnp.zeros(len(z))
        return self._ratio(problem.gen[rows], above, below, key)

    def _push(self, problem: UnfoldingProblem, draws: Array, weights: Array, key: Array) -> Array:
        """Return the log ratio of the unfolded sample to the simulation, for simulated events."""
        rows = problem.pass_gen
        gen = problem.gen[rows].astype(jnp.float32)
        zeros = jnp.zeros(len(draws)), jnp.zeros(len(gen))
        ratio = self._ratio(
            jnp.concatenate([draws, gen]),
            jnp.concatenate([weights, zeros[1]]),
            jnp.concatenate([zeros[0], problem.gen_weights[rows]]),
            key,
        )
        return jnp.where(rows, jnp.clip(ratio(problem.gen), -self.cap, self.cap), 0.0)

    def _ratio(self, x: Array, above: Array, below: Array, key: Array) -> LogRatio:
        return log_ratio(
            x, above, below, key=key, hidden=self.hidden, epochs=self.epochs,
            batch_size=self.batch_size, learning_rate=self.learning_rate, patience=self.patience,
        )  # fmt: skip

    def _training(self) -> Training:
        return Training(
            epochs=self.epochs, batch_size=self.batch_size,
            learning_rate=self.learning_rate, patience=self.patience,
        )  # fmt: skip

    def _check(self, problem: UnfoldingProblem) -> None:
        for name in ("iterations", "samples", "epochs", "batch_size", "patience"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name))
        whole_number("bootstraps", self.bootstraps, least=0)
        for name in ("cap", "learning_rate"):
            real_number(name, getattr(self, name), above=0)
        for name in ("gen", "reco"):
            shape = getattr(problem, name).shape
            if len(shape) != 2:
                raise InputError(
                    f"{name} has shape {shape}: the flow takes [events, observables], not particles"
                )

    def _fitted(self) -> tuple[SplineFlow, UnfoldingProblem]:
        if self.flow is None or self.problem is None:
            raise InputError("this model is not fitted: call model = model.fit(problem, key=...)")
        return self.flow, self.problem


def _back(draws: Array, origin: Origin) -> Array:
    """Return draws with the constants of the observables; in float64 where JAX has none."""
    if not origin.gen.any():
        return draws
    return held(np.asarray(draws, np.float64) + origin.gen)  # pyright: ignore


@eqx.filter_jit
def _sample(flow: SplineFlow, reco: Array, key: Array, samples: int) -> Array:
    return flow.sample(reco, key=key, samples=samples)


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
