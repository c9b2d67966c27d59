"""Regions with a fixed variable and binning: all their events become hard histograms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from difana._errors import InputError, NothingSelectedError
from difana.analysis._sources import Source, factors, systematics_of, varied_weights
from difana.analysis.config import AnalysisConfig, RegionConfig, SampleConfig
from difana.analysis.templates import ObservedSample, Values, binned, hard_channel
from difana.data import Expression
from difana.likelihood import Channel

EMPTY = "its template is empty"
WHOLE = "the variable"
_NOTHING = Values(np.zeros(0), np.zeros(0))


def fixed_channel(config: AnalysisConfig, region: RegionConfig) -> Channel:
    """Return the channel of a fixed region.

    A sample of which no event is selected gets an empty template; that, and events outside the
    bins, are said by a warning.

    Raises:
        InputError: If a file, branch or value is bad, or no sample is expected in the region.
    """
    samples = [_observed_sample(config, sample, region) for sample in config.expected_in(region)]
    if not samples:
        raise InputError(f"{region.where}: no sample is expected in region '{region.name}'")
    return hard_channel(
        samples,
        np.asarray(region.binning),
        name=region.name,
        staterror=config.general.stat_errors,
        flow=region.flow,
    )


def observed_yields(
    config: AnalysisConfig, sample: SampleConfig, region: RegionConfig
) -> tuple[float, ...]:
    """Return the observed yields of a fixed region; zeros, with a warning, if none is selected."""
    source = Source(config, sample, region)
    try:
        values = _values(source)
    except NothingSelectedError as error:
        warnings.warn(f"{error}: its observed yields are zero", stacklevel=2)
        values = _NOTHING
    _say_outside(source, values)
    return tuple(binned(values, np.asarray(region.binning), flow=region.flow)[0].tolist())


def _observed_sample(
    config: AnalysisConfig, sample: SampleConfig, region: RegionConfig
) -> ObservedSample:
    """Return variable, weights and variations of one sample."""
    source = Source(config, sample, region)
    try:
        scope, weights = _read(source)
    except NothingSelectedError as error:
        warnings.warn(f"{error}: {EMPTY}", stacklevel=2)
        return empty_sample(config, sample, region)
    nominal = Values(variable_of(source, scope), weights)
    _say_outside(source, nominal)
    shapes = [
        (name, Values(nominal.x, up), Values(nominal.x, down))
        for name, (up, down) in varied_weights(source).items()
    ]
    for entry in systematics_of(config, sample, region, "Transform"):
        up, down = (
            Values(variable_of(source, scope, entry=entry, alpha=alpha), weights)
            for alpha in (1.0, -1.0)
        )
        shapes.append((entry.modifier_name, up, down))
    for entry in systematics_of(config, sample, region, "Files", "Tree"):
        up = _side(Source(config, sample, region, entry, "up"))
        if entry.down is None:
            down = Values(
                np.concatenate([nominal.x, up.x]),
                np.concatenate([2 * nominal.weights, -up.weights]),
            )
        else:
            down = _side(Source(config, sample, region, entry, "down"))
        shapes.append((entry.modifier_name, up, down))
    norms = [
        (entry.modifier_name, *factors(entry))
        for entry in systematics_of(config, sample, region, "Normalization")
    ]
    free = config.factors_of(sample.name, region.name)
    return ObservedSample(sample.name, nominal, tuple(shapes), tuple(norms), free)


def empty_sample(
    config: AnalysisConfig, sample: SampleConfig, region: RegionConfig
) -> ObservedSample:
    """Return a sample without events; nuisances have nothing to change in it."""
    free = config.factors_of(sample.name, region.name)
    signal = tuple(name for name in free if name in config.general.pois)
    return ObservedSample(sample.name, _NOTHING, normfactors=signal)


def _say_outside(source: Source, values: Values) -> None:
    """Warn of events that lie outside the bins and are dropped."""
    edges, x = source.region.binning, values.x
    if source.region.flow != "drop" or edges is None:
        return
    outside = (x < edges[0]) | (x > edges[-1])
    if outside.any():
        lost, total = values.weights[outside].sum(), values.weights.sum()
        share = f", {100 * lost / total:.3g} % of its yield," if total else ""
        warnings.warn(
            f"{source.where}: {outside.sum()} of {len(x)} events{share} lie outside the Binning "
            f"({edges[0]:g} to {edges[-1]:g}) and are dropped ('Flow: fold' puts them into the "
            "edge bins)",
            stacklevel=2,
        )


def _side(source: Source) -> Values:
    """Return one side of a systematic, which may have no event left."""
    try:
        return _values(source)
    except NothingSelectedError as error:
        warnings.warn(f"{error}: {EMPTY} there", stacklevel=2)
        return _NOTHING


def _values(source: Source) -> Values:
    scope, weights = _read(source)
    return Values(variable_of(source, scope), weights)


def _read(source: Source) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the columns that the variable and its transformations need, and the weights."""
    columns = variable_columns(source)
    events = source.events(columns, dtype=np.float64)
    table = np.asarray(events.features, np.float64)
    return dict(zip(columns, table.T, strict=True)), np.asarray(events.weights, np.float64)


def variable_columns(source: Source) -> dict[str, str]:
    """Return the columns that the variable and its transformations need."""
    variable, features = str(source.region.variable), dict(source.config.features)
    names = Expression(variable).names
    if any(name in features for name in names):
        return {name: name for name in names} | features
    return {WHOLE: variable}  # may index jagged branches, which are no numbers themselves


def variable_of(
    source: Source,
    scope: Mapping[str, np.ndarray],
    *,
    entry: SystematicConfig | None = None,
    alpha: float = 0.0,
) -> Float[np.ndarray, " events"]:
    """Return the variable, with features transformed if a systematic is given."""
    if WHOLE in scope:
        return scope[WHOLE]
    if entry is not None:
        inside = {**scope, "alpha": alpha}
        changed = {name: Expression(text).evaluate(inside, np) for name, text in entry.transform}
        scope = {**scope, **changed}
    size = len(next(iter(scope.values())))
    text = str(source.region.variable)
    value = np.broadcast_to(np.asarray(Expression(text).evaluate(scope, np), float), size)
    if not np.isfinite(value).all():
        what = f"Variable '{text}'" + ("" if entry is None else f" shifted by '{entry.name}'")
        bad = int((~np.isfinite(value)).sum())
        raise InputError(f"{source.where}: {what} is not finite in {bad} of {size} events")
    return value
