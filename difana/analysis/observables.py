"""The observables that are compared: one bin, cross-entropy in three binnings, candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana.analysis.conditions import background_of
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
class Expectation:
    """What is expected of one observable in hard bins.

    Attributes:
        name: The observable.
        edges: Its bin edges; empty where there are none.
        limits: Expected upper limits at -2, -1, 0, 1, 2 standard deviations.
        cls: Expected CLs of ``mu = 1``, in the same order.
        significance: Expected discovery significance for ``mu = 1``.
        status: ``ok``, or why the numbers cannot be trusted.
        notes: What was done to the bins.
        observable: For the one that is reported, which of the candidates it is.
        error: Statistical error of the median limit from the number of simulated events.
        retained: Share of the information on the signal that the bins keep, to first order and
            with nuisances profiled; not a number where it is not known.
    """

    name: str
    edges: tuple[float, ...]
    limits: tuple[float, ...] = ()
    cls: tuple[float, ...] = ()
    significance: float = float("nan")
    status: str = "ok"
    notes: tuple[str, ...] = ()
    observable: str = ""
    error: float = float("nan")
    retained: float = float("nan")

    @property
    def median(self) -> float:
        """Median expected limit; not a number where there is none."""
        return self.limits[2] if self.limits else float("nan")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all observables of an analysis share.

    Attributes:
        region: Name of the trained region.
        poi: Parameter of interest.
        bins: Number of bins for which programs are compiled.
        channels: Fixed regions.
        parameters: Settings of parameters.
        staterror: Include the statistical uncertainty of the simulation.
        unbinned: Uncertainty of the parameter of interest without binning, to first order.
        replicas: Bootstrap samples for the errors of the limits; 0 for no errors.
    """

    region: str
    poi: str
    bins: int
    channels: tuple[Channel, ...]
    parameters: tuple[Parameter, ...]
    staterror: bool
    treated: Treatments = _TREATED
    unbinned: float = float("nan")
    replicas: int = 0

    def channel(self, samples: Sequence[ObservedSample], edges: np.ndarray) -> Channel:
        """Return the trained region in hard bins, its templates treated."""
        return self.treated(self.untreated(samples, edges))

    def untreated(self, samples: Sequence[ObservedSample], edges: np.ndarray) -> Channel:
        """Return the trained region in hard bins."""
        return hard_channel(samples, edges, name=self.region, staterror=self.staterror)

    def model(self, channel: Channel) -> Model:
        """Return the model of the trained region and the fixed ones."""
        return build_model((channel, *self.channels), poi=self.poi, parameters=self.parameters)


def baseline_edges(
    samples: Sequence[ObservedSample], *, poi: str, bins: int
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
    name: str,
    samples: Sequence[ObservedSample],
    edges: Float[np.ndarray, " edges"],
    *,
    on: Setting,
    observable: str = "",
) -> Expectation:
    """Return what is expected of an observable; bins without background are merged.

    Args:
        name: The observable.
        samples: Samples of the test split.
        edges: Edges chosen on the training split.
        on: What all observables share.
        observable: For the one that is reported, which of the candidates it is.
    """
    edges = np.asarray(edges, samples[0].nominal.x.dtype)
    edges, merged = merge_empty(samples, edges, poi=on.poi)
    channel = on.channel(samples, edges)
    try:
        _check_background(on.untreated(samples, edges), on.poi)
    except InputError as error:
        ends = tuple(map(float, edges))
        return Expectation(name, ends, status=str(error), observable=observable)
    inference = Inference(on.model(spread_last_bin(channel, on.bins)))
    limits, cls, discovery = inference.limits(), inference.cls(1.0), inference.significance()
    notes = (f"{merged} bin(s) without background merged with a neighbour",) if merged else ()
    return Expectation(
        name,
        tuple(map(float, edges)),
        tuple(limits.expected),
        tuple(cls.expected),
        float(discovery.expected),
        discovery.verdict,
        notes,
        observable,
        _spread(samples, edges, on=on),
        _retained(channel, on=on),
    )


def _spread(
    samples: Sequence[ObservedSample], edges: Float[np.ndarray, " edges"], *, on: Setting
) -> float:
    """Return the spread of the median limit over bootstrap samples of the events."""
    rng, found = np.random.default_rng(0), []
    for _ in range(on.replicas):
        drawn = resampled(samples, rng)
        left, _ = merge_empty(drawn, edges, poi=on.poi)
        channel = on.channel(drawn, left)
        if background_of(channel, poi=on.poi)[0] > 0:
            own = Inference(on.model(spread_last_bin(channel, on.bins))).limits()
            found.append(own.median)
    found = [limit for limit in found if np.isfinite(limit)]
    return float(np.std(found, ddof=1)) if len(found) > 1 else float("nan")


def _retained(channel: Channel, *, on: Setting) -> float:
    """Return the share of the information that is left in the bins."""
    linear = LinearLimit(channel, on.channels, poi=on.poi)
    sigma = linear.sigma(np.arange(linear.size + 1)[None], simulation=False)
    return float((on.unbinned / sigma[0]) ** 2)


def baselines(
    train: Sequence[ObservedSample], test: Sequence[ObservedSample], *, on: Setting
) -> tuple[Expectation, ...]:
    """Return what is expected of the observables of cross-entropy.

    Args:
        train: Training samples as the cross-entropy network sees them.
        test: Test samples, the same.
        on: What all observables share.
    """
    found = []
    for name, choose in baseline_edges(train, poi=on.poi, bins=on.bins).items():
        try:
            edges = choose()
        except InputError as error:  # a network that learned nothing has too few distinct scores
            found.append(Expectation(name, (), status=str(error)))
            continue
        found.append(expectation(name, test, edges, on=on))
    return tuple(found)


def _check_background(channel: Channel, poi: str) -> None:
    sums = np.sum(
        [np.asarray(t.values) for t in channel.templates if not is_signal(t, poi)], axis=0
    )
    if sums[0] <= 0:
        raise InputError(f"region '{channel.name}': the background yield is {sums[0]:.6g}")
