"""What the trained observable and the others are worth, on the test split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError
from difana._typing import Network
from difana.analysis.blinding import seen_data
from difana.analysis.candidates import Observable
from difana.analysis.conditions import Closing, Condition, background_of, judged
from difana.analysis.config import AnalysisConfig
from difana.analysis.cuts import passing
from difana.analysis.efficient_score import unbinned_uncertainty
from difana.analysis.interests import pois_of
from difana.analysis.load import Loaded
from difana.analysis.observables import (
    DIFANA,
    Expectation,
    Scores,
    Setting,
    baselines,
    expectation,
    views_of,
)
from difana.analysis.optimised import Optimised
from difana.analysis.region_events import RegionEvents
from difana.analysis.statistics import Final, final_statistics
from difana.analysis.templates import (
    ObservedSample,
    Values,
    binned,
    in_category,
    network_scores,
    observe,
)
from difana.analysis.treatments import treatments_of
from difana.analysis.trees import TREES, BoostedTrees, observe_trees
from difana.data import Events, Inputs, Sample, is_signal, nominal_samples
from difana.hist import soft_histogram
from difana.likelihood import Channel, Model, build_model

BASELINE = "cross-entropy"
_REPLICAS = 20  # a spread known to a sixth


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What the test split says.

    Attributes:
        comparison: Expectations of the baselines and, last, of the trained observable.
        channels: The trained regions in hard bins.
        edges: Their bin edges, by name.
        model: The final model.
        data: Its data: observed events; background-only Asimov data without, and where blinded.
        statistics: Fit, yields and scan of the final model.
        soft: Soft yields by sample, by trained region.
        conditions: What became of the conditions on the training.
        scores: Test samples as seen by the cross-entropy and by the trained networks, by name of
            these and by trained region.
    """

    comparison: tuple[Expectation, ...]
    channels: tuple[Channel, ...]
    edges: Mapping[str, Float[np.ndarray, " edges"]]
    model: Model
    data: Float[Array, " data"]
    statistics: Final
    soft: Mapping[str, Mapping[str, Float[np.ndarray, " bins"]]]
    conditions: tuple[Condition, ...]
    scores: Mapping[str, Scores]


def evaluate(config: AnalysisConfig, loaded: Loaded, optimised: Optimised) -> Evaluated:
    """Evaluate all observables in hard bins of the test split.

    Args:
        config: The configuration.
        loaded: Its events.
        optimised: What the training found.

    Raises:
        ModelError: If the trained observable cannot be evaluated.
    """
    regions = loaded.regions
    unbinned = float("nan")
    if optimised.scores:
        tests = [own.test for own in regions]
        unbinned = unbinned_uncertainty(
            optimised.scores,
            tests,
            loaded.channels,
            parameters=loaded.parameters,
            poi=config.general.poi,
        )
    setting = setting_of(config, loaded, optimised.observables, unbinned=unbinned)
    plain = _scores_of(optimised.baselines, [own.test for own in regions], regions)
    trained_on = [nominal_samples(own.train) for own in regions]
    others = baselines(_scores_of(optimised.baselines, trained_on, regions), plain, on=setting)

    def tested(observables: Sequence[Observable]) -> Scores:
        """Return the test samples, those of the baselines once."""
        rows = zip(observables, optimised.baselines, regions, strict=True)
        return {
            r.name: plain[r.name] if o.net is old else observe(o.net, r.test) for o, old, r in rows
        }

    others += tuple(
        expectation(
            own.name, views_of(tested(own.observables), edges_of(own.observables)), on=setting
        )
        for own in optimised.candidates
        if own.name != optimised.chosen
    )
    if optimised.trees:
        others += (_of_trees(optimised.trees, regions, on=setting),)
    test, cuts = tested(optimised.observables), edges_of(optimised.observables)
    best = expectation(DIFANA, views_of(test, cuts), on=setting, observable=optimised.chosen)
    widths = dict(zip(test, optimised.bandwidths, strict=True))
    return finished(
        config,
        loaded,
        setting,
        rows=(*others, best),
        scores={BASELINE: plain, DIFANA: test},
        observed={
            own.name: observed_scores(one.net, own.observed)
            for one, own in zip(optimised.observables, regions, strict=True)
            if own.observed is not None
        },
        soft=lambda name, edges: soft_yields(test[name], edges, float(widths[name])),
    )


def edges_of(observables: Sequence[Observable]) -> dict[str, Float[np.ndarray, " edges"]]:
    """Return the bin edges by region."""
    return {own.region: np.asarray(own.edges) for own in observables}


def _scores_of(
    nets: Sequence[Network], parts: Sequence[Sequence[Sample]], regions: Sequence[RegionEvents]
) -> Scores:
    """Return samples as networks see them, by region."""
    rows = zip(nets, parts, regions, strict=True)
    return {own.name: observe(net, samples) for net, samples, own in rows}


def setting_of(
    config: AnalysisConfig,
    loaded: Loaded,
    observables: Sequence[Observable],
    *,
    unbinned: float,
) -> Setting:
    """Return what all observables of an analysis share."""
    return Setting(
        poi=config.general.interest,
        others_fixed=config.general.other_pois == "fixed",
        bins={own.region: own.bins for own in observables},
        channels=loaded.channels,
        parameters=loaded.parameters,
        staterror=config.general.stat_errors,
        treated=treatments_of(config),
        unbinned=unbinned,
        replicas=_REPLICAS,
    )


def observed_scores(net: Network, events: Events) -> Float[np.ndarray, " events"]:
    """Return the observable of observed events in a category that pass the cuts, perhaps none."""
    if not len(events):
        return np.zeros(0)
    inside = in_category(net, events.inputs) & passing(net, events.inputs)
    return network_scores(net, events.inputs)[inside]


def finished(
    config: AnalysisConfig,
    loaded: Loaded,
    setting: Setting,
    *,
    rows: tuple[Expectation, ...],
    scores: Mapping[str, Scores],
    observed: Mapping[str, Float[np.ndarray, " events"]],
    soft: Callable[[str, np.ndarray], dict[str, np.ndarray]],
) -> Evaluated:
    """Return the final model of the last of the observables, and what it says.

    Args:
        config: The configuration.
        loaded: Its events.
        setting: What all observables share.
        rows: Expectations of all observables.
        scores: Samples as seen by the cross-entropy and by the trained networks.
        observed: Observable of the observed events by trained region, of those that are seen.
        soft: Name of a trained region and edges -> soft yields by sample.

    Raises:
        ModelError: If the last observable cannot be evaluated.
    """
    general, test, best = config.general, scores[DIFANA], rows[-1]
    if not best.limits:
        raise ModelError(f"the trained observable cannot be evaluated: {best.status}")
    cuts = {
        name: np.asarray(edges, test[name][0].nominal.x.dtype) for name, edges in best.edges.items()
    }
    said: list[str] = []
    channels, yields = [], {}
    for own, view in zip(loaded.regions, views_of(test, cuts), strict=True):
        said += setting.treated.notes(setting.untreated(view))
        channel, nothing = setting.channel(view), np.zeros(len(view.edges) - 1)
        if own.empty:
            none = setting.channel(dataclasses.replace(view, samples=own.empty))
            channel = dataclasses.replace(channel, templates=(*channel.templates, *none.templates))
        channels.append(channel)
        yields[own.name] = soft(own.name, view.edges) | {s.name: nothing for s in own.empty}
    best = dataclasses.replace(best, notes=(*best.notes, *said))
    model = _final_model(setting, channels, best)
    counts = {
        name: binned(Values(x, np.ones(len(x))), cuts[name])[0] for name, x in observed.items()
    }
    seen = seen_data(config, loaded, model, counts)
    closing = _closing(channels, yields, general.interest)
    expected = best.by_poi(general.interest)
    return Evaluated(
        comparison=(*rows[:-1], best),
        channels=tuple(channels),
        edges=cuts,
        model=model,
        data=seen.vector,
        statistics=final_statistics(
            model,
            seen,
            tops={name: 1.25 * own.limits[4] for name, own in expected.items()},
            fixed=general.other_pois == "fixed",
        ),
        soft=yields,
        conditions=judged(config.training.constraints, model, closing, channels=channels),
        scores=scores,
    )


def _of_trees(
    trees: Sequence[BoostedTrees], regions: Sequence[RegionEvents], *, on: Setting
) -> Expectation:
    """Return what is expected of boosted trees."""
    for one in trees:
        if not one.edges:
            return Expectation(TREES, {}, status=one.status)
    rows = list(zip(trees, regions, strict=True))
    scores = {own.name: observe_trees(one, own.test) for one, own in rows}
    edges = {own.name: np.asarray(one.edges) for one, own in rows}
    found = expectation(TREES, views_of(scores, edges), on=on)
    if isinstance(regions[0].test[0].nominal.inputs, Inputs):
        found = dataclasses.replace(found, notes=(*found.notes, "of the features, no particles"))
    return found


def _final_model(setting: Setting, channels: Sequence[Channel], best: Expectation) -> Model:
    """Return the model with room for the parameter of interest."""
    parameters = []
    for entry in setting.parameters:
        if (own := best.by_poi(setting.poi).get(entry.name)) is not None:
            low, high = entry.bounds[0] if entry.bounds else (0.0, 10.0)
            high = max(high, 10.0, 5 * own.limits[4])
            entry = dataclasses.replace(entry, bounds=((min(low, 0.0), high),))
        parameters.append(entry)
    left = [setting.treated.without_idle(own) for own in (*channels, *setting.channels)]
    return build_model(left, poi=pois_of(setting.poi)[0], parameters=parameters)


def soft_yields(
    samples: Sequence[ObservedSample], edges: np.ndarray, bandwidth: float
) -> dict[str, np.ndarray]:
    """Return soft yields; all samples are padded to one length for one compilation."""
    longest = max(len(sample.nominal.x) for sample in samples)
    found = {}
    for sample in samples:
        padding = (0, longest - len(sample.nominal.x))
        x = jnp.asarray(np.pad(sample.nominal.x, padding, mode="edge"))
        weights = jnp.asarray(np.pad(sample.nominal.weights, padding), x.dtype)
        soft = soft_histogram(x, weights, jnp.asarray(edges), bandwidth=bandwidth)
        found[sample.name] = np.asarray(soft.contents, np.float64)
    return found


def _closing(
    channels: Sequence[Channel],
    soft: Mapping[str, Mapping[str, np.ndarray]],
    poi: str | Sequence[str],
) -> Closing:
    """Return the background of the trained regions in soft and in hard bins."""
    totals = [
        np.sum([soft[c.name][t.name] for t in c.templates if not is_signal(t, poi)], axis=0)
        for c in channels
    ]
    return Closing(jnp.asarray(np.concatenate(totals)), background_of(*channels, poi=poi))
