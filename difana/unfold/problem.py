"""What every unfolding method is given: simulation at two levels, data and background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from difana._errors import InputError
from difana.data import Events
from difana.unfold._precision import held


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
    truth, gen_weights = _columns(gen, gen_weights)
    detector, reco_weights = _columns(reco, reco_weights)
    measured, data_weights = _columns(data, data_weights)
    events = len(truth)
    if len(detector) != events:
        raise InputError(
            f"gen holds {events} events and reco {len(detector)}: row i of both must be the same"
            " simulated event; keep unreconstructed events and mark them in pass_reco"
        )
    if (gen_ids is None) != (reco_ids is None):
        raise InputError("give both gen_ids and reco_ids, or none of them")
    if gen_ids is not None and reco_ids is not None:
        _same_events(np.asarray(gen_ids), np.asarray(reco_ids), events)
    masks = {
        name: _mask(mask, events, name)
        for name, mask in (("pass_gen", pass_gen), ("pass_reco", pass_reco))
    }
    if _known(masks["pass_gen"], masks["pass_reco"]) and not np.any(
        np.asarray(masks["pass_gen"]) & np.asarray(masks["pass_reco"])
    ):
        raise InputError("no event passes both pass_gen and pass_reco: nothing relates the levels")
    gen_weights = _weights(gen_weights, events, "gen_weights")
    reco_weights = _weights(reco_weights, events, "reco_weights") if own else gen_weights
    data_weights = _weights(data_weights, len(measured), "data_weights")
    _total(gen_weights, masks["pass_gen"], "gen_weights of events in pass_gen")
    _total(reco_weights, masks["pass_reco"], "reco_weights of events in pass_reco")
    _total(data_weights, np.ones(len(measured), bool), "data_weights")
    _same_columns(detector, measured, "data")
    other, other_weights = None, None
    if background is not None:
        other, other_weights = _columns(background, background_weights)
        _same_columns(detector, other, "background")
        other_weights = _weights(other_weights, len(other), "background_weights")
        other = _features(other, None, "background")
        if _known(data_weights, other_weights):
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
        gen=_features(truth, masks["pass_gen"], "gen"),
        reco=_features(detector, masks["pass_reco"], "reco"),
        data=_features(measured, None, "data"),
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
        passed = _mask(pass_reco, len(problem.gen), f"{name}: pass_reco")
    values = problem.reco if observables is None else _columns(observables, None)[0]
    if values.shape != problem.reco.shape:
        raise InputError(
            f"{name}: the observables have shape {values.shape}, reco {problem.reco.shape}: give"
            " the same events and columns"
        )
    if observables is None and not (np.asarray(problem.pass_reco) | ~np.asarray(passed)).all():
        raise InputError(f"{name}: pass_reco takes events that had failed: give observables, too")
    return {
        "observables": _features(values, passed, f"{name}: observables"),
        "pass_reco": jnp.asarray(passed),
    }


def _known(*values: Any) -> bool:
    return not any(isinstance(value, Tracer) for value in values)


def _columns(values: Any, weights: Any) -> tuple[Any, Any]:
    """Return features with at least one column, and the weights of ``Events``."""
    if isinstance(values, Events):
        weights = values.weights if weights is None else weights
        values = values.features
    values = values if isinstance(values, Tracer) else np.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.complexfloating) or values.dtype.kind not in "fiubV":
        raise InputError(f"observables are of type {values.dtype}: give real numbers")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(float)
    if values.ndim == 0 or not len(values):
        raise InputError(f"events of shape {values.shape}: at least one event is needed")
    return (values[:, None] if values.ndim == 1 else values), weights


def _mask(mask: Any, events: int, name: str) -> Any:
    if mask is None:
        return np.ones(events, bool)
    mask = mask if isinstance(mask, Tracer) else np.asarray(mask)
    if mask.shape != (events,) or mask.dtype != bool:
        raise InputError(
            f"{name} has shape {mask.shape} and type {mask.dtype}; give one boolean for each of the"
            f" {events} events"
        )
    if _known(mask) and not mask.any():
        raise InputError(f"{name} passes no event: check the selection that made it")
    return mask


def _weights(weights: Any, events: int, name: str) -> Any:
    if weights is None:
        return np.ones(events)
    if np.iscomplexobj(weights):
        raise InputError(f"{name} are complex: give real numbers")
    weights = weights if isinstance(weights, Tracer) else np.array(weights, dtype=float)
    if weights.shape != (events,):
        raise InputError(f"{name} have shape {weights.shape}, but there are {events} events")
    if _known(weights) and not np.isfinite(weights).all():
        first = int(np.argmin(np.isfinite(weights)))
        raise InputError(f"{name} are not finite, first at event {first}: drop or repair it")
    return weights


def _total(weights: Any, mask: Any, name: str) -> None:
    if not _known(weights, mask):
        return
    chosen = np.asarray(weights)[np.asarray(mask)]
    if not np.any(chosen):
        raise InputError(f"{name} are all zero: nothing is left to unfold")
    if chosen.sum() <= 0:
        raise InputError(
            f"{name} have a total of {chosen.sum():g}: it must be positive; add events or check the"
            " signs"
        )


def _features(values: Any, mask: Any, name: str) -> Any:
    """Return the features with zeros outside the mask, after a check of those inside."""
    if mask is None:
        mask = np.ones(len(values), bool)
    if _known(values, mask):
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1) & mask
        if bad.any():
            raise InputError(
                f"{name} is not finite in {bad.sum()} events, first in event {int(bad.argmax())};"
                " drop them, or mark them as failing in the mask of that level"
            )
    found = held(values, mask)
    shape = (-1, *(1,) * (values.ndim - 1))
    if isinstance(found, np.ndarray):
        return np.where(np.asarray(mask).reshape(shape), found, 0.0)
    return jnp.where(jnp.asarray(mask).reshape(shape), found, 0.0)


def _same_columns(reco: Any, other: Any, name: str) -> None:
    if reco.shape[1:] != other.shape[1:]:
        raise InputError(
            f"{name} have columns of shape {other.shape[1:]}, reco of {reco.shape[1:]}: give the"
            " same observables in the same order"
        )


def _same_events(gen: np.ndarray, reco: np.ndarray, events: int) -> None:
    for name, ids in (("gen_ids", gen), ("reco_ids", reco)):
        if ids.shape != (events,):
            raise InputError(f"{name} have shape {ids.shape}, but there are {events} events")
    different = np.flatnonzero(gen != reco)
    if different.size:
        first = int(different[0])
        raise InputError(
            f"gen and reco are of different events in {different.size} rows, first in row {first}"
            f" (gen_ids {gen[first]}, reco_ids {reco[first]}): sort both by event number"
        )
