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
from difana.analysis.conditions import Closing, Condition, background_of, judged
from difana.analysis.config import AnalysisConfig
from difana.analysis.efficient_score import unbinned_uncertainty
from difana.analysis.load import Loaded
from difana.analysis.observables import DIFANA, Expectation, Setting, baselines, expectation
from difana.analysis.optimise import Optimised
from difana.analysis.statistics import Final, final_statistics
from difana.analysis.templates import ObservedSample, Values, binned, network_scores, observe
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
        channel: The trained region in hard bins.
        edges: Its bin edges.
        model: The final model.
        data: Its data: observed events; background-only Asimov data without, and where blinded.
        statistics: Fit, yields and scan of the final model.
        soft: Soft yields of the trained region by sample.
        conditions: What became of the conditions on the training.
        scores: Test samples as seen by the cross-entropy and by the trained network.
    """

    comparison: tuple[Expectation, ...]
    channel: Channel
    edges: Float[np.ndarray, " edges"]
    model: Model
    data: Float[Array, " data"]
    statistics: Final
    soft: Mapping[str, Float[np.ndarray, " bins"]]
    conditions: tuple[Condition, ...]
    scores: Mapping[str, tuple[ObservedSample, ...]]


def evaluate(config: AnalysisConfig, loaded: Loaded, optimised: Optimised) -> Evaluated:
    """Evaluate all observables in hard bins of the test split.

    Args:
        config: The configuration.
        loaded: Its events.
        optimised: What the training found.

    Raises:
        ModelError: If the trained observable cannot be evaluated.
    """
    score, seen = optimised.score_net, loaded.observed
    unbinned = (
        float("nan") if score is None else unbinned_uncertainty(score, loaded.test, loaded.channels)
    )
    setting = setting_of(config, loaded, bins=optimised.bins, unbinned=unbinned)
    plain = observe(optimised.baseline_net, loaded.test)
    trained_on = observe(optimised.baseline_net, nominal_samples(loaded.train))
    others = baselines(trained_on, plain, on=setting)

    def tested(net: Network) -> tuple[ObservedSample, ...]:
        return plain if net is optimised.baseline_net else observe(net, loaded.test)

    others += tuple(
        expectation(own.name, tested(own.net), own.edges, on=setting)
        for own in optimised.candidates
        if own.name != optimised.chosen
    )
    if optimised.trees is not None:
        others += (_of_trees(optimised.trees, loaded.test, on=setting),)
    test = tested(optimised.net)
    best = expectation(DIFANA, test, optimised.edges, on=setting, observable=optimised.chosen)
    return finished(
        config,
        loaded,
        setting,
        rows=(*others, best),
        scores={BASELINE: plain, DIFANA: test},
        observed=None if seen is None else observed_scores(optimised.net, seen),
        soft=lambda edges: soft_yields(test, edges, float(optimised.bandwidth)),
    )


def setting_of(config: AnalysisConfig, loaded: Loaded, *, bins: int, unbinned: float) -> Setting:
    """Return what all observables of an analysis share."""
    return Setting(
        region=config.trained.name,
        poi=config.general.poi,
        bins=bins,
        channels=loaded.channels,
        parameters=loaded.parameters,
        staterror=config.general.stat_errors,
        treated=treatments_of(config),
        unbinned=unbinned,
        replicas=_REPLICAS,
    )


def observed_scores(net: Network, events: Events) -> Float[np.ndarray, " events"]:
    """Return the observable of observed events, of which there may be none."""
    return network_scores(net, events.inputs) if len(events) else np.zeros(0)


def finished(
    config: AnalysisConfig,
    loaded: Loaded,
    setting: Setting,
    *,
    rows: tuple[Expectation, ...],
    scores: Mapping[str, tuple[ObservedSample, ...]],
    observed: Float[np.ndarray, " events"] | None,
    soft: Callable[[np.ndarray], dict[str, np.ndarray]],
) -> Evaluated:
    """Return the final model of the last of the observables, and what it says.

    Args:
        config: The configuration.
        loaded: Its events.
        setting: What all observables share.
        rows: Expectations of all observables.
        scores: Samples as seen by the cross-entropy and by the trained network.
        observed: Observable of the observed events; None without, or blinded.
        soft: Edges -> soft yields by sample.

    Raises:
        ModelError: If the last observable cannot be evaluated.
    """
    general, test, best = config.general, scores[DIFANA], rows[-1]
    if not best.limits:
        raise ModelError(f"the trained observable cannot be evaluated: {best.status}")
    edges = np.asarray(best.edges, test[0].nominal.x.dtype)
    said = setting.treated.notes(setting.untreated(test, edges))
    best = dataclasses.replace(best, notes=(*best.notes, *said))
    channel = setting.channel(test, edges)
    if loaded.empty:
        none = setting.channel(loaded.empty, edges)
        channel = dataclasses.replace(channel, templates=(*channel.templates, *none.templates))
    model = _final_model(setting, channel, best)
    counts = None
    if observed is not None:
        counts = binned(Values(observed, np.ones(len(observed))), edges)[0]
    seen = seen_data(config, loaded, model, counts)
    yields = soft(edges) | {sample.name: np.zeros(len(edges) - 1) for sample in loaded.empty}
    closing = _closing(channel, yields, general.poi)
    return Evaluated(
        comparison=(*rows[:-1], best),
        channel=channel,
        edges=edges,
        model=model,
        data=seen.vector,
        statistics=final_statistics(model, seen, top=1.25 * best.limits[4]),
        soft=yields,
        conditions=judged(config.training.constraints, model, closing, channel=channel.name),
        scores=scores,
    )


def _of_trees(trees: BoostedTrees, test: Sequence[Sample], *, on: Setting) -> Expectation:
    """Return what is expected of boosted trees."""
    if not trees.edges:
        return Expectation(TREES, (), status=trees.status)
    found = expectation(TREES, observe_trees(trees, test), np.asarray(trees.edges), on=on)
    if isinstance(test[0].nominal.inputs, Inputs):
        found = dataclasses.replace(found, notes=(*found.notes, "of the features, no particles"))
    return found


def _final_model(setting: Setting, channel: Channel, best: Expectation) -> Model:
    """Return the model with room for the parameter of interest."""
    parameters = []
    for entry in setting.parameters:
        if entry.name == setting.poi:
            low, high = entry.bounds[0] if entry.bounds else (0.0, 10.0)
            high = max(high, 10.0, 5 * best.limits[4])
            entry = dataclasses.replace(entry, bounds=((min(low, 0.0), high),))
        parameters.append(entry)
    channels = [setting.treated.without_idle(own) for own in (channel, *setting.channels)]
    return build_model(channels, poi=setting.poi, parameters=parameters)


def soft_yields(
    samples: tuple[ObservedSample, ...], edges: np.ndarray, bandwidth: float
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


def _closing(channel: Channel, soft: dict[str, np.ndarray], poi: str) -> Closing:
    """Return the background of the trained region in soft and in hard bins."""
    names = [t.name for t in channel.templates if not is_signal(t, poi)]
    total = np.sum([soft[name] for name in names], axis=0)
    return Closing(jnp.asarray(total), background_of(channel, poi=poi))
