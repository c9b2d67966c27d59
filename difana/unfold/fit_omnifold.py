"""OmniFold: the fit of weights that take simulation to data, with all replicas."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from difana._errors import ConfigError, InputError, ModelError
from difana._options import whole_number
from difana._typing import PyTree
from difana.nn import MLP, Standardised, trainable
from difana.ratio import stacked_nets
from difana.train import Training
from difana.unfold._given import enough_events, far_events, quiet_moments, to_scale, without_far
from difana.unfold._halves import omnifold_with_checkpoints
from difana.unfold._precision import centred
from difana.unfold.omnifold import omnifold, prepared
from difana.unfold.omnifold_result import OmniFoldResult, joined_parts
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import Replicas, checked_variations
from difana.unfold.settings import Background, Missed, Settings
from difana.unfold.status import UnfoldStatus

MakeNet = Callable[[Array], PyTree]
_USUAL = Settings()


def fit_omnifold(
    problem: UnfoldingProblem,
    *,
    key: PRNGKeyArray,
    iterations: int = _USUAL.iterations,
    training: Training = _USUAL.training,
    gen_net: MakeNet | None = None,
    reco_net: MakeNet | None = None,
    cap: float = _USUAL.cap,
    missed: Missed = _USUAL.missed,
    fakes: Missed = _USUAL.fakes,
    background: Background = _USUAL.background,
    warm_start: bool = _USUAL.warm_start,
    ensemble: int = _USUAL.ensemble,
    tolerance: float = _USUAL.tolerance,
    fold_bins: int = _USUAL.fold_bins,
    dtype: str = _USUAL.dtype,
    replicas: Replicas = Replicas(),
    chunk: int | None = None,
    devices: Sequence[Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress_bar: bool = True,
) -> OmniFoldResult:
    r"""Unfold without bins, by iterated reweighting of the simulation.

    Step 1 learns :math:`\omega = \nu\, p_{data} / p_{sim}(\nu)` at detector level, step 2 learns
    :math:`\nu = E[\omega \mid truth]` at truth level, against the simulation. Yields are absolute:
    the weights carry the ratio of the yields. A step keeps the mean of the network's weights over
    the epochs that are best on held-out events.

    Args:
        problem: The inputs, see ``difana.unfold.unfolding_problem``.
        key: Random key of everything.
        iterations: Number of iterations.
        training: Options of the training of each step. Without a batch size it has a 64th of the
            rows, between 128 and 2048.
        gen_net: Network of step 2: a function ``key -> net``; None makes an MLP of two layers of
            64 with SiLU: log ratios are smooth, and kinks of ReLU show in bins of small errors.
            Networks take standardised observables (particles as they are) and return a logit.
        reco_net: The same for step 1.
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
        replicas: Seeds, bootstraps and systematic variations, all unfolded at once.
        chunk: Largest number of replicas in one program; the result does not depend on it. None:
            all (those trained side by side are fewer on a CPU: what its cache holds).
        devices: Devices over which the replicas of a chunk are spread; not with ``checkpoint``.
        checkpoint: Folder of checkpoints, one after each half step; a run that was interrupted
            continues there. Without it each chunk is one compiled program.
        resume: False: delete the checkpoints and start over.
        progress_bar: False for no bar; there is none without a terminal in any case.

    Returns:
        Weights of the simulated events, of all replicas, with what happened in each iteration.

    Raises:
        InputError: If a variation does not fit, or there are too few events.
        ConfigError: If a setting has no meaning, or the checkpoint is of another run.
        ModelError: If a weight or loss is not finite in any replica.

    Warns:
        UserWarning: For a broken event far from all others, and for a simulation whose weights are
            of another scale than the data (more than a factor of 10): it is scaled to the data
            first. The status says both.

    Example:
        >>> from difana.unfold import unfolding_problem
        >>> z = np.linspace(-1.0, 1.0, 50)
        >>> problem = unfolding_problem(z, z, z[25:], names=("z",))
        >>> result = fit_omnifold(
        ...     problem, key=jax.random.key(0), iterations=1, training=Training(epochs=2)
        ... )
        >>> round(float(result.unfolded().weights.sum()), 2)
        25.0

    References:
        arXiv:1911.09107; arXiv:2105.04448 for fakes, misses and background; arXiv:2007.11586 for
        positive weights; arXiv:2503.20753 for the ensemble inside a step.
    """
    settings = Settings(
        iterations, training, cap, missed, fakes, background, warm_start, ensemble, tolerance,
        fold_bins, dtype,
    ).check()  # fmt: skip
    replicas.check()
    if chunk is not None:
        whole_number("chunk", chunk)
    if checkpoint is not None and devices is not None:
        raise ConfigError("checkpoint and devices exclude each other: give one of them")
    enough_events(problem)
    given, flags = problem, far_events(problem)
    problem, origin = centred(problem)
    problem, far = without_far(problem)
    problem, log_scale = to_scale(problem)
    replicas = Replicas(
        replicas.seeds, replicas.bootstraps,
        checked_variations(replicas.variations, given, origin=origin.reco),
    )  # fmt: skip
    shifts, number = replicas.shifts(problem), replicas.number
    workers = 1 if devices is None else len(devices)
    size = -(-min(chunk or number, number) // workers) * workers
    parts, factors, static = [], [], None
    for start in range(0, number, size):
        # the last chunk is filled up: all chunks are one compiled program
        chosen = np.minimum(np.arange(start, start + size), number - 1)
        starts = np.array([replicas.start(int(replica)) for replica in chosen])
        (reco_nets, gen_nets), run = start_nets(
            problem, starts, key=key, gen_net=gen_net, reco_net=reco_net, ensemble=ensemble
        )
        drawn = replicas.factors(chosen, problem, jax.random.split(key, 6)[3:])
        inputs = (problem, reco_nets, gen_nets, settings)
        named = {"key": run, "factors": drawn, "shifts": shifts}
        if checkpoint is None:
            part = omnifold(*inputs, **named, devices=devices)
        else:
            part = omnifold_with_checkpoints(
                prepared(*inputs, **named), Path(checkpoint) / f"replicas_{start}",
                resume=resume, progress_bar=progress_bar,
            )  # fmt: skip
        parts.append(part)
        factors.append(drawn.gen)
        static = eqx.filter(gen_nets, trainable(gen_nets), inverse=True)
    found = joined_parts(parts, number, ensemble)
    bad = np.flatnonzero(np.asarray(found.status) & int(UnfoldStatus.NOT_FINITE))
    if bad.size:
        raise ModelError(
            f"replicas {bad.tolist()}: {UnfoldStatus.sentences()[UnfoldStatus.NOT_FINITE]}; lower"
            " learning_rate, or check that the weights of data minus background are positive"
        )
    return OmniFoldResult.of(
        found, given, settings, replicas, log_scale=log_scale, far=far, origin=origin.gen,
        flags=flags | (int(UnfoldStatus.OTHER_SCALE) if log_scale else 0), static=static,
        factors=None if factors[0] is None else jnp.concatenate(factors)[:number],
    )  # fmt: skip


def start_nets(
    problem: UnfoldingProblem,
    starts: Int[np.ndarray, " replicas"],
    *,
    key: PRNGKeyArray,
    gen_net: MakeNet | None = None,
    reco_net: MakeNet | None = None,
    ensemble: int = 1,
) -> tuple[tuple[PyTree, PyTree], Array]:
    """Return networks of step 1 and 2 with chosen initialisations, and the key of the run.

    What ``fit_omnifold`` does first, for direct use of ``difana.unfold.omnifold``.
    """
    keys = jax.random.split(key, 6)
    reco_nets, gen_nets = (
        stacked_nets(_standardised(make, x[np.asarray(mask)]), k, starts, ensemble=ensemble)
        for make, x, mask, k in (
            (reco_net, problem.reco, problem.pass_reco, keys[0]),
            (gen_net, problem.gen, problem.pass_gen, keys[1]),
        )
    )
    return (reco_nets, gen_nets), keys[2]


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
    mean, std = quiet_moments(features)
    return lambda key: Standardised(make(key), mean, std)
