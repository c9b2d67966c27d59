"""The inputs of the network as histograms: data and simulation, with uncertainties."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from difana.analysis.templates import Values, binned
from difana.data import Events, Given, Inputs, Sample, features_of, is_signal, variants
from difana.metrics import separation

BINS = 25
_TAIL = 0.005  # part of the events of a sample that may lie outside on either side
_CLASSES = {"signal": 1, "background": 0}
_MOST_WHOLE = 40  # whole numbers get bins of their own if there are no more of them


@dataclasses.dataclass(frozen=True)
class InputYields:
    """One input of the network in the trained region.

    The first and the last bin hold what lies outside, too.

    Attributes:
        name: Its name.
        edges: Bin edges.
        samples: Yields by sample, signal at unit strength.
        signals: Names of the signal samples.
        errors: Standard deviation of the background by simulation statistics and all systematics
            of the trained region, before any fit, ``[bins]``.
        data: Observed events; None without data.
        separation: What `difana.metrics.separation` says of signal and background; NaN where one
            of them has no yield.
    """

    name: str
    edges: Float[np.ndarray, " edges"]
    samples: Mapping[str, Float[np.ndarray, " bins"]]
    signals: tuple[str, ...]
    errors: Float[np.ndarray, " bins"]
    data: Float[np.ndarray, " bins"] | None
    separation: float

    @property
    def background(self) -> dict[str, Float[np.ndarray, " bins"]]:
        """Yields of the samples that are no signal."""
        return {name: y for name, y in self.samples.items() if name not in self.signals}


def input_yields(
    samples: Sequence[Sample],
    observed: Events | None = None,
    *,
    poi: str | Sequence[str],
    most: int = 24,
) -> tuple[InputYields, ...]:
    r"""Return histograms of the inputs of the network, those that separate best.

    The variance of the background in each bin,

    .. math::
        \sigma^2 = \sum_i w_i^2 + \sum_\theta \Big( \tfrac12 \sum_s (y_s^{+} - y_s^{-}) \Big)^2 ,

    adds all nuisance parameters in quadrature; the samples :math:`s` move together.

    Args:
        samples: Samples with their variations, each standing for its full yield.
        observed: Observed events.
        poi: Parameter of interest; what it multiplies is signal.
        most: How many inputs are kept, those of the largest separation.

    Returns:
        The histograms in the order of the inputs: features, then channels of particles.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Normalisation
        >>> def sample(name, values, factors, *variations):
        ...     events = Events(jnp.array(values)[:, None], jnp.ones(2), columns=("n_jets",))
        ...     return Sample(events, variations, name=name, normfactors=factors)
        >>> norm = Normalisation(up=1.5, down=0.5, name="norm")
        >>> found, = input_yields(
        ...     [sample("s", [2.0, 2.0], ("mu",)), sample("b", [1.0, 1.0], (), norm)], poi="mu")
        >>> found.edges.tolist(), found.samples["s"].tolist(), found.separation
        ([0.5, 1.5, 2.5], [0.0, 2.0], 1.0)
        >>> found.errors.round(3).tolist()  # 2 unweighted events: 1.41; 50 % of 2 events: 1
        [1.732, 0.0]
    """
    nominal = [dict(_columns(s.nominal.inputs, s.nominal)) for s in samples]
    signals = tuple(s.name for s in samples if is_signal(s, poi))
    grids = {name: _edges([own[name][0] for own in nominal]) for name in nominal[0]}
    found = {}
    for name, edges in grids.items():
        rows = {
            s.name: binned(_values(own[name], s.nominal.weights), edges)[0]
            for s, own in zip(samples, nominal, strict=True)
        }
        found[name] = InputYields(
            name, edges, rows, signals, np.zeros(0), None, _separation(rows, signals)
        )
    ranked = sorted(found, key=lambda name: -np.nan_to_num(found[name].separation))[:most]
    kept = {name: grids[name] for name in grids if name in ranked}
    errors = _errors([s for s in samples if s.name not in signals], kept)
    data = {} if observed is None else dict(_columns(observed.inputs, observed))
    return tuple(
        dataclasses.replace(
            found[name],
            errors=errors[name],
            data=binned(_values(data[name], np.ones(len(observed))), edges)[0]
            if observed is not None
            else None,
        )
        for name, edges in kept.items()
    )


def histogram_separation(
    x: Float[np.ndarray, " events"],
    weights: Float[np.ndarray, " events"],
    labels: Float[np.ndarray, " events"],
) -> float:
    """Return the separation of an observable in equal bins that hold nearly all events.

    Args:
        x: The observable.
        weights: Weights.
        labels: 1 for signal, 0 for background.

    Example:
        >>> x, labels = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0, 0, 1, 1])
        >>> histogram_separation(x, np.ones(4), labels)
        1.0
    """
    parts = {name: (x[labels == own], weights[labels == own]) for name, own in _CLASSES.items()}
    edges = _edges([own for own, _ in parts.values()])
    rows = {name: binned(_values((own, None), w), edges)[0] for name, (own, w) in parts.items()}
    return _separation(rows, ("signal",))


def _columns(inputs: Given, names: Events) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the name of each input, its values, and to which events these belong (None: one each).

    Particles that are not there count nowhere.
    """
    features = np.asarray(features_of(inputs))
    for i, name in enumerate(names.columns):
        yield name, (features[:, i], None)
    if isinstance(inputs, Inputs):
        mask = np.asarray(inputs.mask)
        rows, particles = np.nonzero(mask)[0], np.asarray(inputs.particles)[mask]
        for i, name in enumerate(names.particle_columns):
            yield name, (particles[:, i], rows)


def _values(column: tuple[Any, Any], weights: Any) -> Values:
    x, rows = column
    weights = np.asarray(weights, np.float64)
    return Values(np.asarray(x, np.float64), weights if rows is None else weights[rows])


def _edges(columns: Sequence[np.ndarray]) -> Float[np.ndarray, " edges"]:
    """Return edges that hold nearly all events of every sample."""
    tails = [np.quantile(x, [_TAIL, 1 - _TAIL]) for x in columns if x.size]
    if not tails:
        return np.array([0.0, 1.0])
    low, high = min(a for a, _ in tails), max(b for _, b in tails)
    if high - low < _MOST_WHOLE and all((x == np.round(x)).all() for x in columns):
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    reach = 0.0 if high > low else 0.5 * max(abs(low), 1.0)
    return np.linspace(low - reach, high + reach, BINS + 1, dtype=np.float64)


def _separation(rows: Mapping[str, np.ndarray], signals: Sequence[str]) -> float:
    sums = [
        np.sum([y for name, y in rows.items() if (name in signals) == own], axis=0)
        for own in (True, False)
    ]
    if any(np.sum(y) <= 0 for y in sums):
        return float("nan")
    return float(separation(*sums))


def _errors(
    samples: Sequence[Sample], grids: Mapping[str, np.ndarray]
) -> dict[str, Float[np.ndarray, " bins"]]:
    """Return the standard deviation of the sum of the samples in the bins of each input."""
    variance = {name: np.zeros(len(edges) - 1) for name, edges in grids.items()}
    shifts: dict[str, dict[str, np.ndarray]] = {name: {} for name in grids}
    for sample in samples:
        for row in variants(sample):
            columns = dict(_columns(row.inputs, row.events))
            for name, edges in grids.items():
                contents, squares = binned(_values(columns[name], row.weights), edges)
                if not row.name:
                    variance[name] += squares * float(sample.variance_scale)
                    for norm, factors in _norms(sample):
                        moved = 0.5 * (factors[0] - factors[1]) * contents
                        shifts[name][norm] = shifts[name].get(norm, 0.0) + moved
                else:
                    moved = 0.5 * row.alpha * contents
                    shifts[name][row.name] = shifts[name].get(row.name, 0.0) + moved
    return {
        name: np.sqrt(own + sum(shift**2 for shift in shifts[name].values()))
        for name, own in variance.items()
    }


def _norms(sample: Sample) -> Iterator[tuple[str, tuple[float, float]]]:
    for variation in sample.variations:
        if (factors := variation.factors()) is not None:
            yield variation.name, (float(factors[0]), float(factors[1]))
