"""The observables that are compared: one bin, cross-entropy in three binnings, candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana.analysis.conditions import background_of
from difana.analysis.interests import models_of, pois_of
from difana.analysis.linear_limit import LinearLimit
from difana.analysis.pooled import resampled
from difana.analysis.templates import (
    ObservedSample,
    hard_channel,
    merge_empty,
    spread_last_bin,
)
from difana.analysis.treatments import Treatments
from difana.data import is_signal
from difana.hist import equal_yield_edges, quantile_edges
from difana.infer import Inference
from difana.likelihood import Channel, Model, Parameter, build_model

ONE_BIN = "one bin"
UNIFORM = "cross-entropy, uniform bins"
QUANTILE = "cross-entropy, quantile bins"
EQUAL_SIGNAL = "cross-entropy, equal-signal bins"
DIFANA = "difana"
_TREATED = Treatments()


@dataclasses.dataclass(frozen=True)
class View:
    """A trained region as an observable sees it.

    Attributes:
        region: Its name.
        samples: Samples with the observable.
        edges: Bin edges.
    """

    region: str
    samples: tuple[ObservedSample, ...]
    edges: Float[np.ndarray, " edges"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is expected of one parameter of interest.

    Attributes:
        limits: Expected upper limits at -2, -1, 0, 1, 2 standard deviations.
        cls: Expected CLs of 1, in the same order.
        significance: Expected discovery significance for 1.
        status: ``ok``, or why the numbers cannot be trusted.
    """

    limits: tuple[float, ...]
    cls: tuple[float, ...]
    significance: float
    status: str


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What is expected of one observable in hard bins.

    Attributes:
        name: The observable.
        edges: Its bin edges by trained region; empty where there are none.
        limits: Expected upper limits at -2, -1, 0, 1, 2 standard deviations.
        cls: Expected CLs of ``mu = 1``, in the same order.
        significance: Expected discovery significance for ``mu = 1``.
        status: ``ok``, or why the numbers cannot be trusted.
        notes: What was done to the bins.
        observable: For the one that is reported, which of the candidates it is.
        error: Statistical error of the median limit from the number of simulated events.
        retained: Share of the information on the signal that the bins keep, to first order and
            with nuisances profiled; not a number where it is not known.
        others: The same of the other parameters of interest, by name.
    """

    name: str
    edges: Mapping[str, tuple[float, ...]]
    limits: tuple[float, ...] = ()
    cls: tuple[float, ...] = ()
    significance: float = float("nan")
    status: str = "ok"
    notes: tuple[str, ...] = ()
    observable: str = ""
    error: float = float("nan")
    retained: float = float("nan")
    others: Mapping[str, Limits] = dataclasses.field(default_factory=dict)

    def by_poi(self, poi: str | Sequence[str]) -> dict[str, Limits]:
        """Return what is expected of each parameter of interest, the leading one first."""
        own = Limits(self.limits, self.cls, self.significance, self.status)
        return {pois_of(poi)[0]: own, **self.others}

    @property
    def median(self) -> float:
        """Median expected limit; not a number where there is none."""
        return self.limits[2] if self.limits else float("nan")

    @property
    def bins(self) -> dict[str, int]:
        """Number of bins by trained region."""
        return {name: len(edges) - 1 for name, edges in self.edges.items()}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all observables of an analysis share.

    Attributes:
        poi: Parameter of interest, or several, the leading one first.
        bins: Number of bins for which programs are compiled, by trained region.
        channels: Fixed regions.
        parameters: Settings of parameters.
        staterror: Include the statistical uncertainty of the simulation.
        unbinned: Uncertainty of the parameter of interest without binning, to first order.
        replicas: Bootstrap samples for the errors of the limits; 0 for no errors.
        others_fixed: Whether the other parameters of interest are held in the fits for one.
    """

    poi: str | Sequence[str]
    bins: Mapping[str, int]
    channels: tuple[Channel, ...]
    parameters: tuple[Parameter, ...]
    staterror: bool
    treated: Treatments = _TREATED
    unbinned: float = float("nan")
    replicas: int = 0
    others_fixed: bool = False

    def channel(self, view: View) -> Channel:
        """Return a trained region in hard bins, its templates treated."""
        return self.treated(self.untreated(view))

    def untreated(self, view: View) -> Channel:
        """Return a trained region in hard bins."""
        return hard_channel(view.samples, view.edges, name=view.region, staterror=self.staterror)

    def model(self, channels: Sequence[Channel]) -> Model:
        """Return the model of the trained regions and the fixed ones."""
        leading, *_ = pois_of(self.poi)
        model = build_model((*channels, *self.channels), poi=leading, parameters=self.parameters)
        return models_of(model, self.poi, fixed=self.others_fixed)[leading]

    def wide(self, channels: Sequence[Channel]) -> Model:
        """Return an equivalent model with the numbers of bins that programs are compiled for."""
        return self.model([spread_last_bin(own, self.bins[own.name]) for own in channels])


def baseline_edges(
    samples: Sequence[ObservedSample], *, poi: str | Sequence[str], bins: int
) -> dict[str, Callable[[], Float[np.ndarray, " edges"]]]:
    """Return how to choose the edges of each cross-entropy observable from training events.

    Args:
        samples: Samples with the logit of the cross-entropy network.
        poi: Parameter of interest; what it multiplies is signal.
        bins: Number of bins.
    """
    x = np.concatenate([sample.nominal.x for sample in samples])
    weights = np.concatenate([sample.nominal.weights for sample in samples])
    signals = [sample.nominal for sample in samples if is_signal(sample, poi)]
    low, high = x.min(), np.nextafter(x.max(), np.array(np.inf, x.dtype))

    def uniform() -> np.ndarray:
        inner = np.linspace(0, 1, bins + 1)[1:-1]
        logits = np.log(inner) - np.log1p(-inner)
        outer = [min(low, *logits[:1] - 1), max(high, *logits[-1:] + 1)]
        return np.array([outer[0], *logits, outer[1]], x.dtype)

    def equal_signal() -> np.ndarray:
        own = np.concatenate([values.x for values in signals])
        own_weights = np.concatenate([values.weights for values in signals])
        return equal_yield_edges(own, own_weights, bins, low=float(low), high=float(high))

    return {
        ONE_BIN: lambda: np.array([low, high]),
        UNIFORM: uniform,
        QUANTILE: lambda: quantile_edges(x, weights, bins),
        EQUAL_SIGNAL: equal_signal,
    }


def expectation(
    name: str, views: Sequence[View], *, on: Setting, observable: str = ""
) -> Expectation:
    """Return what is expected of an observable; bins without background are merged.

    Args:
        name: The observable.
        views: The trained regions: samples of the test split, edges chosen on the training split.
        on: What all observables share.
        observable: For the one that is reported, which of the candidates it is.
    """
    views = [
        dataclasses.replace(own, edges=np.asarray(own.edges, own.samples[0].nominal.x.dtype))
        for own in views
    ]
    left, merged = _merged(views, poi=on.poi)
    channels = [on.channel(own) for own in left]
    edges = {own.region: tuple(map(float, own.edges)) for own in left}
    try:
        for own in left:
            _check_background(on.untreated(own), on.poi)
    except InputError as error:
        return Expectation(name, edges, status=str(error), observable=observable)
    models = models_of(on.wide(channels), on.poi, fixed=on.others_fixed)
    own, *others = (_limits(model) for model in models.values())
    notes = (f"{merged} bin(s) without background merged with a neighbour",) if merged else ()
    return Expectation(
        name,
        edges,
        own.limits,
        own.cls,
        own.significance,
        own.status,
        notes,
        observable,
        _spread(left, on=on),
        _retained(channels, on=on),
        dict(zip(list(models)[1:], others, strict=True)),
    )


def _limits(model: Model) -> Limits:
    """Return what is expected of the parameter of interest of a model."""
    inference = Inference(model)
    limits, cls, discovery = inference.limits(), inference.cls(1.0), inference.significance()
    return Limits(
        tuple(limits.expected), tuple(cls.expected), float(discovery.expected), discovery.verdict
    )


def _merged(views: Sequence[View], *, poi: str | Sequence[str]) -> tuple[list[View], int]:
    """Return the views without bins that lack background, and how many were merged away."""
    found, total = [], 0
    for own in views:
        edges, merged = merge_empty(own.samples, own.edges, poi=poi)
        found.append(dataclasses.replace(own, edges=edges))
        total += merged
    return found, total


def _spread(views: Sequence[View], *, on: Setting) -> float:
    """Return the spread of the median limit over bootstrap samples of the events."""
    rng, found = np.random.default_rng(0), []
    for _ in range(on.replicas):
        drawn = [dataclasses.replace(v, samples=resampled(v.samples, rng)) for v in views]
        channels = [on.channel(own) for own in _merged(drawn, poi=on.poi)[0]]
        if all(background_of(own, poi=on.poi)[0] > 0 for own in channels):
            found.append(Inference(on.wide(channels)).limits().median)
    found = [limit for limit in found if np.isfinite(limit)]
    return float(np.std(found, ddof=1)) if len(found) > 1 else float("nan")


def _retained(channels: Sequence[Channel], *, on: Setting) -> float:
    """Return the share of the information that is left in the bins."""
    linear = LinearLimit(channels[0], (*channels[1:], *on.channels), poi=on.poi)
    sigma = linear.sigma(np.arange(linear.size + 1)[None], simulation=False)
    return float((on.unbinned / sigma[0]) ** 2)


Scores = Mapping[str, Sequence[ObservedSample]]
"""Samples as an observable sees them, by trained region."""


def views_of(scores: Scores, edges: Mapping[str, Float[np.ndarray, " edges"]]) -> list[View]:
    """Return the trained regions as an observable sees them, in bins."""
    return [View(name, tuple(samples), edges[name]) for name, samples in scores.items()]


def baselines(train: Scores, test: Scores, *, on: Setting) -> tuple[Expectation, ...]:
    """Return what is expected of the observables of cross-entropy.

    Args:
        train: Training samples as the cross-entropy networks see them.
        test: Test samples, the same.
        on: What all observables share.
    """
    choices = {
        region: baseline_edges(samples, poi=on.poi, bins=on.bins[region])
        for region, samples in train.items()
    }
    found = []
    for name in next(iter(choices.values())):
        try:
            edges = {region: choose[name]() for region, choose in choices.items()}
        except InputError as error:  # a network that learned nothing has too few distinct scores
            found.append(Expectation(name, {}, status=str(error)))
            continue
        found.append(expectation(name, views_of(test, edges), on=on))
    return tuple(found)


def _check_background(channel: Channel, poi: str | Sequence[str]) -> None:
    sums = np.sum(
        [np.asarray(t.values) for t in channel.templates if not is_signal(t, poi)], axis=0
    )
    if sums[0] <= 0:
        raise InputError(f"region '{channel.name}': the background yield is {sums[0]:.6g}")
