"""OmniFold: all iterations, both steps and all replicas as one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from difana._errors import ConfigError
from difana._typing import PyTree
from difana.nn import trainable
from difana.unfold._ratio import FitOptions, FitReport, Rows, evaluate, fit_ratio
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.status import UnfoldStatus


class Settings(NamedTuple):
    r"""How OmniFold runs; see ``OmniFold`` for the meaning of each (all static)."""

    iterations: int = 4
    epochs: int = 50
    batch_size: int = 2048
    learning_rate: float = 1e-3
    patience: int = 5
    held_out: float = 0.2
    cap: float = 10.0
    missed: Literal["prior", "learned"] = "prior"
    fakes: Literal["prior", "learned"] = "prior"
    background: Literal["subtract", "add"] = "subtract"
    warm_start: bool = True
    dtype: str = "float32"

    def check(self) -> Settings:
        """Return the settings, or raise ``ConfigError`` at one that has no meaning."""
        for name in ("iterations", "epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be at least 1")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out = {self.held_out}: a fraction between 0 and 1 is needed")
        for name in ("cap", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be positive")
        choices = {"missed": ("prior", "learned"), "fakes": ("prior", "learned"),
                   "background": ("subtract", "add")}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = '{getattr(self, name)}': choose one of {known}")
        return self


class IterationReport(eqx.Module):
    r"""What happened in each iteration, ``[iterations, replicas]`` each.

    Attributes:
        effective: Effective fraction of the simulated events, :math:`(\sum w)^2 / N \sum w^2`.
        norm: Unfolded yield over the simulated one.
        largest: Largest ratio of unfolded to simulated weight.
        change: Weighted mean of the absolute change of the log weights since the last iteration.
        saturated: Number of fiducial events at the cap.
        loss: Held-out loss of the two steps, ``[iterations, replicas, 2]``.
        epochs: Epochs trained in the two steps, ``[iterations, replicas, 2]``.
        finite: False from the iteration on in which a number was not finite.
    """

    effective: Float[Array, "iterations replicas"]
    norm: Float[Array, "iterations replicas"]
    largest: Float[Array, "iterations replicas"]
    change: Float[Array, "iterations replicas"]
    saturated: Int[Array, "iterations replicas"]
    loss: Float[Array, "iterations replicas 2"]
    epochs: Int[Array, "iterations replicas 2"]
    finite: Bool[Array, "iterations replicas"]


class OmniFoldResult(eqx.Module):
    """Log weights of all iterations and replicas.

    Attributes:
        log_weights: Log of unfolded over simulated weight, ``[iterations, replicas, events]``;
            zero for events outside the fiducial region.
        report: What happened in each iteration.
        gen_net: Stacked trained leaves of the network of step 2, one a replica.
        log_norm: Added to the logit of that network to give the log weight, ``[replicas]``.
        status: Bits of ``UnfoldStatus``, ``[replicas]``.
    """

    log_weights: Float[Array, "iterations replicas events"]
    report: IterationReport
    gen_net: PyTree
    log_norm: Float[Array, " replicas"]
    status: Int[Array, " replicas"]


def poisson_factors(key: Array, replicas: int, events: int) -> Float[Array, "replicas events"]:
    """Return bootstrap factors; row ``r`` depends on ``key`` and ``r`` only.

    Example:
        >>> import jax
        >>> a, b = (poisson_factors(jax.random.key(0), n, 5) for n in (2, 3))
        >>> bool((a == b[:2]).all())
        True
    """
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(replicas))
    return jax.vmap(lambda k: jax.random.poisson(k, 1.0, (events,)))(keys).astype(float)


def omnifold(
    problem: UnfoldingProblem,
    reco_nets: PyTree,
    gen_nets: PyTree,
    settings: Settings,
    *,
    key: Array,
    data_factors: Float[Array, "replicas data"] | None = None,
    event_factors: Float[Array, "replicas events"] | None = None,
) -> OmniFoldResult:
    r"""Run OmniFold for all replicas.

    Step 1 learns :math:`\omega = \nu\, p_{data} / p_{sim}(\nu)` at detector level, step 2 learns
    :math:`\nu = E[\omega \mid truth]` at truth level, against the simulation. Yields are absolute:
    the weights carry the ratio of the yields.

    Args:
        problem: The inputs.
        reco_nets: Network of step 1 whose inexact leaves have a leading axis of replicas.
        gen_nets: The same for step 2.
        settings: How to run.
        key: Random key of the split and of the order of the events.
        data_factors: Factors on the data weights of each replica (bootstrap); None means 1.
        event_factors: Factors on both weights of the simulated events of each replica.

    Returns:
        The result. A replica that meets a number that is not finite keeps its last good weights and
        says so in its status. Differentiation: reverse and forward mode through the training.

    References:
        arXiv:1911.09107, equations 4 to 8.
    """
    settings.check()
    gen_rows, reco_rows = problem.pass_gen, problem.pass_reco
    if settings.missed == "learned":
        gen_rows = gen_rows & reco_rows
    fakes = problem.pass_reco & ~problem.pass_gen
    any_fakes = isinstance(fakes, Tracer) or bool(jnp.any(fakes))
    return _omnifold(
        problem, reco_nets, gen_nets, settings, key, data_factors, event_factors,
        _Indices(_index(gen_rows), _index(reco_rows), _index(problem.pass_gen & problem.pass_reco)),
        any_fakes and settings.fakes == "learned",
    )  # fmt: skip


class _Indices(NamedTuple):
    gen: Array
    reco: Array
    both: Array


def _index(mask: Array) -> Array:
    """Return the rows that pass; all of them (with zero weights) where the mask is traced."""
    if isinstance(mask, Tracer):
        return jnp.arange(len(mask))
    return jnp.asarray(np.flatnonzero(np.asarray(mask)))


@eqx.filter_jit
def _omnifold(
    problem: UnfoldingProblem, reco_nets: PyTree, gen_nets: PyTree, settings: Settings,
    key: Array, data_factors: Array | None, event_factors: Array | None, rows: _Indices,
    learn_fakes: bool,  # noqa: FBT001 (static, private)
) -> OmniFoldResult:  # fmt: skip
    dtype = jnp.dtype(settings.dtype)
    # 1e-15 inside the root: Adam has a finite derivative where a gradient is exactly zero
    optimizer = optax.adam(settings.learning_rate, eps_root=1e-15)
    reco_start, reco_static = eqx.partition(reco_nets, trainable(reco_nets))
    gen_start, gen_static = eqx.partition(gen_nets, trainable(gen_nets))
    replicas = len(jax.tree.leaves(gen_start)[0])
    options = (settings.epochs, settings.batch_size, settings.patience, optimizer)
    reco_options, gen_options = FitOptions(*options, reco_static), FitOptions(*options, gen_static)

    def spread(weights: Array, factors: Array | None) -> Array:
        one = jnp.ones((replicas, 1), weights.dtype)
        return weights * (one if factors is None else factors)

    both = problem.pass_gen & problem.pass_reco
    gen_weights = spread(jnp.where(problem.pass_gen, problem.gen_weights, 0.0), event_factors)
    reco_weights = spread(jnp.where(problem.pass_reco, problem.reco_weights, 0.0), event_factors)
    data_weights = spread(problem.data_weights, data_factors)
    gen, reco, data = (part.astype(dtype) for part in (problem.gen, problem.reco, problem.data))

    key_split, key_run = jax.random.split(key)
    keys = jax.random.split(key_split, 3)
    held = jax.random.uniform(keys[0], (len(gen),)) < settings.held_out
    outside = [reco[rows.reco], data]
    sizes = [len(rows.reco), len(data)]
    held_parts = [held[rows.reco], jax.random.uniform(keys[1], (len(data),)) < settings.held_out]
    if problem.background is not None:
        outside.append(problem.background.astype(dtype))
        sizes.append(len(problem.background))
        held_parts.append(jax.random.uniform(keys[2], sizes[-1:]) < settings.held_out)
    reco_split = _Split(jnp.concatenate(outside), jnp.concatenate(held_parts), settings.held_out)
    gen_split = _Split(gen[rows.gen], held[rows.gen], settings.held_out)
    both_split = _Split(reco[rows.both], held[rows.both], settings.held_out)

    zeros = [jnp.zeros((replicas, size), data_weights.dtype) for size in sizes]
    above, below = [zeros[0], data_weights], [zeros[0], zeros[1]]
    if problem.background is not None:
        background = spread(problem.background_weights, None)  # pyright: ignore
        subtract = settings.background == "subtract"
        above.append(-background if subtract else zeros[2])
        below.append(zeros[2] if subtract else background)

    def step_one(log_push: Array, nets: PyTree, fakes: Array, key: Array) -> tuple:
        push = jnp.where(problem.pass_gen, log_push, fakes)
        now = (reco_weights * jnp.exp(push))[:, rows.reco]
        top, bottom = jnp.concatenate(above, 1), jnp.concatenate([now, *below[1:]], 1)
        nets, report = fit_ratio(
            nets, *reco_split.rows(top, bottom), reco_options, key=key
        )  # fmt: skip
        ratio = evaluate(nets, reco_static, reco, 8192) + _log_norm(top, bottom, dtype)[:, None]
        ratio = jnp.clip(ratio, -settings.cap, settings.cap)
        return nets, report, jnp.where(both, log_push + ratio, log_push)

    def step_two(log_pull: Array, nets: PyTree, key: Array) -> tuple:
        prior = gen_weights[:, rows.gen]
        top = prior * jnp.exp(log_pull[:, rows.gen])
        nets, report = fit_ratio(nets, *gen_split.rows(top, prior), gen_options, key=key)
        norm = _log_norm(top, prior, dtype)
        log_push = evaluate(nets, gen_static, gen, 8192) + norm[:, None]
        capped = jnp.clip(log_push, -settings.cap, settings.cap)
        return nets, report, jnp.where(problem.pass_gen, capped, 0.0), norm

    def learn(log_push: Array, key: Array) -> Array:
        """Return log E[push | reco], the weight of a fake that looks like this event."""
        prior = reco_weights[:, rows.both]
        top = prior * jnp.exp(log_push[:, rows.both])
        nets, _ = fit_ratio(reco_start, *both_split.rows(top, prior), reco_options, key=key)
        mean = evaluate(nets, reco_static, reco, 8192) + _log_norm(top, prior, dtype)[:, None]
        return jnp.clip(mean, -settings.cap, settings.cap)

    def iterate(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        log_push, reco_nets, gen_nets, norm, good = carry
        keys = jax.random.split(key, 3)
        fakes = learn(log_push, keys[2]) if learn_fakes else jnp.zeros((), log_push.dtype)
        first = reco_nets if settings.warm_start else reco_start
        second = gen_nets if settings.warm_start else gen_start
        first, one, log_pull = step_one(log_push, first, fakes, keys[0])
        second, two, new, new_norm = step_two(log_pull, second, keys[1])
        good = good & one.finite & two.finite & jnp.all(jnp.isfinite(new), axis=1)

        def keep(a: Array, b: Array) -> Array:
            return jnp.where(good.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

        following = jax.tree.map(
            keep, (new, first, second, new_norm), (log_push, reco_nets, gen_nets, norm)
        )
        summary = _summary(following[0], log_push, gen_weights, problem.pass_gen, settings.cap)
        return (*following, good), (following[0], *summary, *_pair(one, two), good)

    def start() -> tuple:
        push = jnp.zeros((replicas, len(gen)), dtype)
        return push, reco_start, gen_start, jnp.zeros(replicas, dtype), jnp.ones(replicas, bool)

    end, (history, *report) = jax.lax.scan(
        iterate, start(), jax.random.split(key_run, settings.iterations)
    )
    report = IterationReport(*report)
    many = report.saturated[-1] > 1e-3 * jnp.sum(problem.pass_gen)
    status = jnp.where(end[4], 0, int(UnfoldStatus.NOT_FINITE))
    status = status | jnp.where(many, int(UnfoldStatus.SATURATED), 0)
    return OmniFoldResult(history, report, end[2], end[3], status)


class _Split:
    """Rows divided once into training and held-out rows; masked rows have zero weight."""

    def __init__(self, x: Array, held: Array, fraction: float) -> None:
        # the numbers of rows must be static: the held-out ones come first in this order
        count = max(1, round(len(x) * fraction))
        order = jnp.argsort(~held, stable=True)
        self.held, self.train = order[:count], order[count:]
        self.x = x

    def rows(self, above: Array, below: Array) -> tuple[Rows, Rows]:
        return tuple(
            Rows(self.x[part], above[:, part], below[:, part]) for part in (self.train, self.held)
        )  # pyright: ignore[reportReturnType]


def _log_norm(above: Array, below: Array, dtype: jnp.dtype) -> Array:
    norm = jnp.log(jnp.sum(above, axis=1)) - jnp.log(jnp.sum(below, axis=1))
    return norm.astype(dtype)


def _pair(one: FitReport, two: FitReport) -> tuple[Array, Array]:
    return jnp.stack([one.loss, two.loss], -1), jnp.stack([one.epochs, two.epochs], -1)


def _summary(
    new: Array, old: Array, weights: Array, fiducial: Array, cap: float
) -> tuple[Array, Array, Array, Array, Array]:
    w = weights * jnp.exp(new)
    total, prior = jnp.sum(w, axis=1), jnp.sum(weights, axis=1)
    events = jnp.sum(fiducial)
    return (
        total**2 / (events * jnp.sum(w**2, axis=1)),
        total / prior,
        jnp.exp(jnp.max(jnp.where(fiducial, new, -jnp.inf), axis=1)),
        jnp.sum(weights * jnp.abs(new - old), axis=1) / prior,
        jnp.sum(fiducial & (jnp.abs(new) >= cap), axis=1),
    )


def stacked_nets(make: Callable[[Array], PyTree], key: Array, replicas: int) -> PyTree:
    """Return ``make(key)`` for each replica, the trained leaves stacked; each row has its own key.

    Example:
        >>> import jax
        >>> from difana.nn import MLP
        >>> nets = stacked_nets(lambda k: MLP(1, [], key=k), jax.random.key(0), 3)
        >>> nets.layers[0].kernel[...].shape
        (3, 1, 1)
    """
    nets = [make(jax.random.fold_in(key, index)) for index in range(replicas)]
    parts = [eqx.partition(net, trainable(net)) for net in nets]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(part for part, _ in parts))
    return eqx.combine(stacked, parts[0][1])
