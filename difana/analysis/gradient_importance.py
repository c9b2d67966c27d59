"""Which input matters: by gradients of the observable, and of the objective by its scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.analysis.cuts import cut_samples
from difana.analysis.templates import in_chunks
from difana.data import Sample
from difana.likelihood import Channel, channel_from_events


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
        >>> from difana.data import Events
        >>> x = jnp.array([[0.0, 5.0], [2.0, 9.0]])
        >>> sample = Sample(Events(x, jnp.ones(2), columns=("a", "b")), name="s")
        >>> gradient_importance(lambda x: 3 * x[:, :1], [sample]).tolist()
        [[3.0, 0.0]]
    """
    sigma = _moments(samples)[1]
    found = []
    for sample in samples:
        x, w = (np.asarray(part) for part in (sample.nominal.features, sample.nominal.weights))
        slopes = np.abs(in_chunks(lambda part: _slopes(net, part), x))
        found.append(np.average(slopes, axis=0, weights=np.abs(w)) * sigma)
    return np.array(found)


@eqx.filter_jit
def _slopes(net: Network, x: Array) -> Array:
    # events do not mix, so that the gradient of the sum holds those of all events
    return jax.grad(lambda inputs: jnp.sum(net(inputs)[:, 0]))(x)


def check_features(samples: Sequence[Sample]) -> None:
    """Refuse particles, whose channels are no inputs of their own."""
    if any(sample.nominal.particles is not None for sample in samples):
        raise InputError(
            "the importance of inputs is that of features, the events have particles: give a "
            "network of the features alone and events without particles"
        )


def _moments(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the inputs; every sample counts the same."""
    check_features(samples)
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
    Events that fail the cuts of the network stay out.

    Args:
        net: Any callable PyTree.
        samples: Samples with their variations.
        objective: A differentiable function of the channel, e.g. the logarithm of the limit.
        edges: Bin edges of the observable.
        bandwidth: Width of the kernel.
        name: Name of the channel.
        staterror: Include the statistical uncertainty of the simulation.
    """
    samples = cut_samples(net, samples)
    mean = jnp.asarray(_moments(samples)[0], samples[0].nominal.features.dtype)
    return np.asarray(
        _stretch(
            net,
            samples,
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
