"""What every unfolding method is given: simulation at two levels, data and background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from difana._errors import InputError
from difana.data import Events
from difana.unfold import _checks as checks


class UnfoldingProblem(eqx.Module):
    """Checked inputs of an unfolding; made by ``unfolding_problem``.

    Row ``i`` of ``gen`` and of ``reco`` is the same simulated event. Events outside a mask hold
    zeros there and no method looks at them. Observables that single precision cannot hold
    (1.7e9 + N(0, 1)) are NumPy arrays in float64.

    Attributes:
        gen: Truth-level observables, ``[events, truth]`` (or padded particles).
        reco: Detector-level observables, ``[events, reco]`` (or padded particles).
        data: Measured observables, ``[data, reco]``.
        pass_gen: True where the event is inside the truth-level fiducial region.
        pass_reco: True where the event was reconstructed and selected.
        gen_weights: Weights of the events at truth level (yield).
        reco_weights: Weights at detector level: those of truth times scale factors (yield).
        data_weights: Weights of the data.
        background: Simulated background at detector level, ``[background, reco]``.
        background_weights: Their weights (yield in the data).
        names: Names of the truth-level observables (static).
        units: Their units (static).
    """

    gen: Float[Array, "events *truth"]
    reco: Float[Array, "events *detector"]
    data: Float[Array, "data *detector"]
    pass_gen: Bool[Array, " events"]
    pass_reco: Bool[Array, " events"]
    gen_weights: Float[Array, " events"]
    reco_weights: Float[Array, " events"]
    data_weights: Float[Array, " data"]
    background: Float[Array, "background *detector"] | None = None
    background_weights: Float[Array, " background"] | None = None
    names: tuple[str, ...] = eqx.field(static=True, default=())
    units: tuple[str, ...] = eqx.field(static=True, default=())


def unfolding_problem(
    gen: Float[ArrayLike, "events *truth"] | Events,
    reco: Float[ArrayLike, "events *detector"] | Events,
    data: Float[ArrayLike, "data *detector"] | Events,
    *,
    pass_gen: Bool[ArrayLike, " events"] | None = None,
    pass_reco: Bool[ArrayLike, " events"] | None = None,
    gen_weights: Float[ArrayLike, " events"] | None = None,
    reco_weights: Float[ArrayLike, " events"] | None = None,
    data_weights: Float[ArrayLike, " data"] | None = None,
    background: Float[ArrayLike, "background *detector"] | Events | None = None,
    background_weights: Float[ArrayLike, " background"] | None = None,
    gen_ids: Shaped[ArrayLike, " events"] | None = None,
    reco_ids: Shaped[ArrayLike, " events"] | None = None,
    names: Sequence[str] = (),
    units: Sequence[str] = (),
) -> UnfoldingProblem:
    """Return the checked inputs of an unfolding.

    A single column may be given as ``[events]``. ``Events`` bring their weights, names and units;
    weights given as arguments replace them. No argument is changed.

    Args:
        gen: Truth level of the simulation, ``[events, truth]``; any number where ``pass_gen`` is
            False, NaN included.
        reco: Detector level of the same events in the same order, ``[events, reco]``.
        data: The measurement, ``[data, reco]``, columns as in ``reco``.
        pass_gen: Events inside the fiducial region; None means all.
        pass_reco: Events that were reconstructed; None means all.
        gen_weights: Weights at truth level; None means 1.
        reco_weights: Weights at detector level; None means ``gen_weights``.
        data_weights: Weights of the data; None means 1.
        background: Background at detector level, columns as in ``reco``.
        background_weights: Their weights; None means 1.
        gen_ids: Event numbers of ``gen``, compared with ``reco_ids``.
        reco_ids: Event numbers of ``reco``.
        names: Names of the truth-level observables.
        units: Their units.

    Returns:
        The problem.

    Raises:
        InputError: For lengths that differ, gen and reco of different events, masks that pass
            nothing, NaN, infinite or complex numbers, weights that are all zero or negative in
            total, two observables of one name.

    Example:
        >>> import numpy as np
        >>> z = np.array([0.1, 0.2, 0.3])
        >>> problem = unfolding_problem(z, z + 1, z + 1, pass_reco=[True, True, False])
        >>> problem.reco.tolist()
        [[1.1], [1.2], [0.0]]
    """
    if isinstance(gen, Events):
        names, units = tuple(names) or gen.columns, tuple(units) or gen.units
    own = reco_weights is not None or isinstance(reco, Events)
    truth, gen_weights = checks.columns(gen, gen_weights)
    detector, reco_weights = checks.columns(reco, reco_weights)
    measured, data_weights = checks.columns(data, data_weights)
    events = len(truth)
    if len(detector) != events:
        raise InputError(
            f"gen holds {events} events and reco {len(detector)}: row i of both must be the same"
            " simulated event; keep unreconstructed events and mark them in pass_reco"
        )
    if (gen_ids is None) != (reco_ids is None):
        raise InputError("give both gen_ids and reco_ids, or none of them")
    if gen_ids is not None and reco_ids is not None:
        checks.same_events(np.asarray(gen_ids), np.asarray(reco_ids), events)
    masks = {
        name: checks.mask(mask, events, name)
        for name, mask in (("pass_gen", pass_gen), ("pass_reco", pass_reco))
    }
    if checks.known(masks["pass_gen"], masks["pass_reco"]) and not np.any(
        np.asarray(masks["pass_gen"]) & np.asarray(masks["pass_reco"])
    ):
        raise InputError("no event passes both pass_gen and pass_reco: nothing relates the levels")
    gen_weights = checks.weights(gen_weights, events, "gen_weights")
    reco_weights = checks.weights(reco_weights, events, "reco_weights") if own else gen_weights
    data_weights = checks.weights(data_weights, len(measured), "data_weights")
    checks.total(gen_weights, masks["pass_gen"], "gen_weights of events in pass_gen")
    checks.total(reco_weights, masks["pass_reco"], "reco_weights of events in pass_reco")
    checks.total(data_weights, np.ones(len(measured), bool), "data_weights")
    checks.same_columns(detector, measured, "data")
    other, other_weights = None, None
    if background is not None:
        other, other_weights = checks.columns(background, background_weights)
        checks.same_columns(detector, other, "background")
        other_weights = checks.weights(other_weights, len(other), "background_weights")
        other = checks.features(other, None, "background")
        if checks.known(data_weights, other_weights):
            left = float(np.sum(np.asarray(data_weights)) - np.sum(np.asarray(other_weights)))
            if left <= 0:
                raise InputError(
                    f"the data minus the background have a total weight of {left:g}; scale"
                    " background_weights to the yield expected in the data"
                )
    elif background_weights is not None:
        raise InputError("background_weights without background: give the background events")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(f"two truth-level observables are called '{twice[0]}': names must differ")
    count = truth.shape[1] if truth.ndim == 2 else 0
    for title, labels in (("names", names), ("units", units)):
        if labels and len(labels) != count:
            raise InputError(f"{len(labels)} {title} for {count} truth-level observables")
    return UnfoldingProblem(
        gen=checks.features(truth, masks["pass_gen"], "gen"),
        reco=checks.features(detector, masks["pass_reco"], "reco"),
        data=checks.features(measured, None, "data"),
        pass_gen=jnp.asarray(masks["pass_gen"]),
        pass_reco=jnp.asarray(masks["pass_reco"]),
        gen_weights=jnp.asarray(gen_weights),
        reco_weights=jnp.asarray(reco_weights),
        data_weights=jnp.asarray(data_weights),
        background=other,
        background_weights=None if other is None else jnp.asarray(other_weights),
        names=tuple(names),
        units=tuple(units),
    )


def shifted_level(
    problem: UnfoldingProblem,
    *,
    name: str,
    observables: Float[ArrayLike, "events *detector"] | None = None,
    pass_reco: Bool[ArrayLike, " events"] | None = None,
) -> dict[str, Any]:
    """Return the checked detector level of the same simulated events after a systematic shift.

    Args:
        problem: The inputs.
        name: What messages call the shift.
        observables: Shifted observables, columns as in ``reco``; None if only the mask moves.
        pass_reco: Events that are reconstructed now; None means the same events.

    Returns:
        ``observables`` (zero where an event fails) and ``pass_reco``.

    Raises:
        InputError: If a shape is another than that of the problem, the mask passes nothing, or a
            number is not finite.

    Example:
        >>> import numpy as np
        >>> z = np.array([0.1, 0.2])
        >>> moved = shifted_level(unfolding_problem(z, z, z), name="jes", observables=z + 1)
        >>> moved["observables"].tolist()
        [[1.1], [1.2]]
    """
    passed = problem.pass_reco
    if pass_reco is not None:
        passed = checks.mask(pass_reco, len(problem.gen), f"{name}: pass_reco")
    values = problem.reco if observables is None else checks.columns(observables, None)[0]
    if values.shape != problem.reco.shape:
        raise InputError(
            f"{name}: the observables have shape {values.shape}, reco {problem.reco.shape}: give"
            " the same events and columns"
        )
    if observables is None and not (np.asarray(problem.pass_reco) | ~np.asarray(passed)).all():
        raise InputError(f"{name}: pass_reco takes events that had failed: give observables, too")
    return {
        "observables": checks.features(values, passed, f"{name}: observables"),
        "pass_reco": jnp.asarray(passed),
    }
