"""Which input matters: by gradients of the observable and of the objective, and by shuffling."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._options import whole_number
from difana._typing import Network
from difana.analysis.templates import hard_channel, network_scores, observe
from difana.data import Events, Sample
from difana.likelihood import Channel, channel_from_events

_CHUNK = 16_384


@dataclasses.dataclass(frozen=True)
class Importance:
    """How much each input matters; the measures have different units, compare within a row.

    Attributes:
        columns: Names of the inputs.
        gradient: Mean change of the observable per standard deviation of the input, ``[features]``.
        stretch: Derivative of the score by the relative width of the input, ``[features]``.
        shuffled: Rise of the score when the input is shuffled among all events, ``[features]``.
        score: The score itself, in hard bins.
    """

    columns: tuple[str, ...]
    gradient: Float[np.ndarray, " features"]
    stretch: Float[np.ndarray, " features"] | None = None
    shuffled: Float[np.ndarray, " features"] | None = None
    score: float | None = None


def gradient_importance(
    net: Network, samples: Sequence[Sample]
) -> Float[np.ndarray, "samples features"]:
    r"""Return the mean size of the gradient of the observable, in units of the spread of inputs.

    .. math:: I_{sj} = \sigma_j \frac{\sum_i |w_i|\, |\partial f/\partial x_j|(x_i)}{\sum_i |w_i|}

    :math:`\sigma_j` is the standard deviation over all samples, each counting the same. To first
    order :math:`I_{sj}` is how far the observable moves for one standard deviation of input j;
    inputs that act through thresholds or only together are better judged by shuffling.

    Args:
        net: Any callable PyTree; its first observable is used.
        samples: Samples; their nominal events are used.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0, 5.0], [2.0, 9.0]])
        >>> sample = Sample(Events(x, jnp.ones(2), columns=("a", "b")), name="s")
        >>> gradient_importance(lambda x: 3 * x[:, :1], [sample]).tolist()
        [[3.0, 0.0]]
    """
    sigma = _moments(samples)[1]
    found = []
    for sample in samples:
        x, w = (np.asarray(part) for part in (sample.nominal.features, sample.nominal.weights))
        slopes = [
            np.abs(np.asarray(_slopes(net, jnp.asarray(part))))[: min(_CHUNK, len(x) - start)]
            for start, part in _padded(x)
        ]
        found.append(np.average(np.concatenate(slopes), axis=0, weights=np.abs(w)) * sigma)
    return np.array(found)


@eqx.filter_jit
def _slopes(net: Network, x: Array) -> Array:
    # events do not mix, so that the gradient of the sum holds those of all events
    return jax.grad(lambda inputs: jnp.sum(net(inputs)[:, 0]))(x)


def _padded(x: np.ndarray):
    for start in range(0, len(x), _CHUNK):
        part = x[start : start + _CHUNK]
        missing = _CHUNK - len(part) if len(x) > _CHUNK else 0
        yield start, np.pad(part, ((0, missing), (0, 0)), mode="edge")


def _check_features(samples: Sequence[Sample]) -> None:
    """Refuse particles, whose channels are no inputs of their own."""
    if any(sample.nominal.particles is not None for sample in samples):
        raise InputError(
            "the importance of inputs is that of features, the events have particles: give a "
            "network of the features alone and events without particles"
        )


def _moments(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the inputs; every sample counts the same."""
    _check_features(samples)
    means, squares = [], []
    for sample in samples:
        x, w = (np.asarray(p, float) for p in (sample.nominal.features, sample.nominal.weights))
        means.append(np.average(x, axis=0, weights=np.abs(w)))
        squares.append(np.average(x**2, axis=0, weights=np.abs(w)))
    mean = np.mean(means, axis=0)
    return mean, np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 0.0))


def stretch_importance(
    net: Network,
    samples: Sequence[Sample],
    objective: Callable[[Channel], Float[Array, ""]],
    *,
    edges: Float[np.ndarray, " edges"],
    bandwidth: float,
    name: str = "SR",
    staterror: bool = True,
) -> Float[np.ndarray, " features"]:
    r"""Return the derivative of an objective by the width of each input, the network unchanged.

    All events, varied ones too, get :math:`x_j \to \bar x_j + (1 + \epsilon_j)(x_j - \bar x_j)`;
    returned is :math:`dL/d\epsilon_j` at 0, by one reverse pass through soft bins, network,
    likelihood and fits: how much the objective depends on the scale of an input being as it is.

    Args:
        net: Any callable PyTree.
        samples: Samples with their variations.
        objective: A differentiable function of the channel, e.g. the logarithm of the limit.
        edges: Bin edges of the observable.
        bandwidth: Width of the kernel.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.
    """
    mean = jnp.asarray(_moments(samples)[0], samples[0].nominal.features.dtype)
    return np.asarray(
        _stretch(
            net,
            tuple(samples),
            objective,
            mean,
            jnp.asarray(edges, mean.dtype),
            bandwidth=bandwidth,
            name=name,
            staterror=staterror,
        )
    )


@eqx.filter_jit
def _stretch(
    net: Network,
    samples: tuple[Sample, ...],
    objective: Callable[[Channel], Array],
    mean: Array,
    edges: Array,
    *,
    bandwidth: float,
    name: str,
    staterror: bool,
) -> Array:
    def value(epsilon: Array) -> Array:
        def stretched(x: Array) -> Array:
            return net(mean + (1 + epsilon) * (x - mean))

        own = channel_from_events(
            stretched, samples, edges=edges, bandwidth=bandwidth, name=name, staterror=staterror
        )
        return objective(own)

    return jax.grad(value)(jnp.zeros_like(mean))


def shuffle_importance(
    net: Network,
    samples: Sequence[Sample],
    score: Callable[[Channel], float],
    *,
    edges: Float[np.ndarray, " edges"],
    repeats: int = 1,
    seed: int = 0,
    name: str = "SR",
    staterror: bool = True,
) -> tuple[float, Float[np.ndarray, " features"]]:
    """Return a score in hard bins, and its rise when one input is shuffled among all events.

    The values of the input are drawn anew from those of all samples, each sample counting the
    same: the input then says nothing about the process, nor together with the others. Shifted
    events of equal number get the same values; exact transformations act on the new values.

    Args:
        net: Any callable PyTree.
        samples: Samples with their variations, e.g. of the test split.
        score: A function of hard bins to be minimised, e.g. the logarithm of the limit.
        edges: Bin edges of the observable.
        repeats: Shuffles to average over.
        seed: Seed of the shuffles.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(2, 500, 2)).astype(np.float32)
        >>> x[0, :, 0] += 2
        >>> s, b = (Sample(Events(jnp.asarray(part), jnp.ones(500), columns=("a", "b")), name=n)
        ...         for part, n in zip(x, "sb"))
        >>> def overlap(channel):
        ...     return float(np.minimum(*(t.values for t in channel.templates)).sum() / 500)
        >>> value, rise = shuffle_importance(
        ...     lambda x: x[:, :1], [s, b], overlap, edges=np.array([-9.0, 1.0, 9.0]))
        >>> bool(rise[0] > 0.5), float(rise[1])
        (True, 0.0)
    """

    def judged(changed: Sequence[Sample]) -> float:
        seen = observe(net, changed)
        return float(score(hard_channel(seen, np.asarray(edges), name=name, staterror=staterror)))

    repeats = whole_number("repeats", repeats)
    _check_features(samples)
    start = judged(samples)
    rng = np.random.default_rng(seed)
    features = samples[0].nominal.features.shape[1]
    rise = np.zeros(features)
    for column in range(features):
        for _ in range(repeats):
            draw = _pool(samples, column, rng)
            rise[column] += judged([_replaced(s, column, draw) for s in samples]) - start
    return start, rise / repeats


def _pool(
    samples: Sequence[Sample], column: int, rng: np.random.Generator
) -> Callable[[int], np.ndarray]:
    """Return how to draw values of one input from all samples alike."""
    values = [np.asarray(sample.nominal.features[:, column]) for sample in samples]
    chances = []
    for sample in samples:
        weights = np.abs(np.asarray(sample.nominal.weights, float))
        chances.append(np.cumsum(weights) / weights.sum())

    def draw(number: int) -> np.ndarray:
        process = rng.integers(len(values), size=number)
        place = rng.random(number)
        found = np.empty(number, values[0].dtype)
        for i, (own, chance) in enumerate(zip(values, chances, strict=True)):
            mine = process == i
            index = np.minimum(np.searchsorted(chance, place[mine], side="right"), len(own) - 1)
            found[mine] = own[index]
        return found

    return draw


def _replaced(sample: Sample, column: int, draw: Callable[[int], np.ndarray]) -> Sample:
    """Return the sample with new values of one input, in its variations as well."""
    fresh = draw(len(sample.nominal))

    def events(old: Events) -> Events:
        own = fresh if len(old) == len(fresh) else draw(len(old))
        return old.with_features(old.features.at[:, column].set(own))

    variations = tuple(
        variation.mapped(lambda _, own: events(own), lambda _, weights: weights)
        for variation in sample.variations
    )
    return eqx.tree_at(
        lambda s: (s.nominal, s.variations), sample, (events(sample.nominal), variations)
    )


@dataclasses.dataclass(frozen=True)
class Profile:
    """The observable as a function of one input.

    Attributes:
        column: Name of the input.
        edges: Bin edges of the input, quantiles over all samples, ``[bins + 1]``.
        mean: Mean observable in each bin by sample, ``[samples, bins]``; NaN without events.
        spread: Standard deviation there, ``[samples, bins]``.
        names: Names of the samples.
    """

    column: str
    edges: Float[np.ndarray, " edges"]
    mean: Float[np.ndarray, "samples bins"]
    spread: Float[np.ndarray, "samples bins"]
    names: tuple[str, ...]


def observable_profiles(
    net: Network, samples: Sequence[Sample], *, bins: int = 20
) -> tuple[Profile, ...]:
    """Return mean and spread of the observable in bins of every input.

    Args:
        net: Any callable PyTree; its first observable is used.
        samples: Samples; their nominal events are used.
        bins: Bins of each input, at quantiles of all events together.

    Raises:
        InputError: If there are no samples.

    Example:
        >>> x = jnp.arange(8.0)[:, None]
        >>> sample = Sample(Events(x, jnp.ones(8), columns=("a",)), name="s")
        >>> observable_profiles(lambda x: 2 * x, [sample], bins=2)[0].mean.tolist()
        [[3.0, 11.0]]
    """
    bins = whole_number("bins", bins)
    if not samples:
        raise InputError("no samples: profiles need at least one")
    _check_features(samples)
    features = [np.asarray(s.nominal.features) for s in samples]
    weights = [np.abs(np.asarray(s.nominal.weights, float)) for s in samples]
    scores = [network_scores(net, x).astype(float) for x in features]
    together = np.concatenate(features)
    found = []
    for j in range(together.shape[1]):
        edges = np.unique(np.quantile(together[:, j], np.linspace(0, 1, bins + 1)))
        rows = []
        for x, w, y in zip(features, weights, scores, strict=True):
            where = np.clip(np.searchsorted(edges, x[:, j], side="right") - 1, 0, len(edges) - 2)
            sums = [np.bincount(where, w * y**k, max(len(edges) - 1, 1)) for k in range(3)]
            some = np.where(sums[0] > 0, sums[0], np.nan)
            mean = sums[1] / some
            rows.append((mean, np.sqrt(np.maximum(sums[2] / some - mean**2, 0.0))))
        mean, spread = (np.array(part) for part in zip(*rows, strict=True))
        column = samples[0].nominal.columns[j] if samples[0].nominal.columns else f"x{j}"
        found.append(Profile(column, edges, mean, spread, tuple(s.name for s in samples)))
    return tuple(found)


def importance(
    net: Network,
    samples: Sequence[Sample],
    *,
    edges: Float[np.ndarray, " edges"] | None = None,
    objective: Callable[[Channel], Float[Array, ""]] | None = None,
    bandwidth: float | None = None,
    repeats: int = 1,
    seed: int = 0,
    name: str = "SR",
    staterror: bool = True,
) -> Importance:
    """Return all measures of which input matters.

    Args:
        net: Any callable PyTree; its first observable is used.
        samples: Samples with their variations, e.g. of the test split.
        edges: Bin edges of the observable; without them there are gradients only.
        objective: A differentiable function of a channel to be minimised, as `log_objective`
            gives it; needed with edges.
        bandwidth: Width of the kernel for the stretch; by default half the median inner bin.
        repeats: Shuffles of each input to average over.
        seed: Seed of the shuffles.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.

    Raises:
        InputError: If only one of edges and objective is given.
    """
    columns = samples[0].nominal.columns or tuple(
        f"x{j}" for j in range(samples[0].nominal.features.shape[1])
    )
    gradient = np.mean(gradient_importance(net, samples), axis=0)
    if (edges is None) != (objective is None):
        raise InputError("give edges and objective together, or neither of them")
    if edges is None or objective is None:
        return Importance(columns, gradient)
    edges = np.asarray(edges)
    inner = np.diff(edges[1:-1] if len(edges) > 3 else edges)
    width = 0.5 * float(np.median(inner)) if bandwidth is None else bandwidth
    binned = {"edges": edges, "name": name, "staterror": staterror}
    stretch = stretch_importance(net, samples, objective, bandwidth=width, **binned)
    compiled = eqx.filter_jit(objective)
    score, shuffled = shuffle_importance(
        net, samples, lambda own: float(compiled(own)), repeats=repeats, seed=seed, **binned
    )
    return Importance(columns, gradient, stretch, shuffled, score)
