"""The network of an analysis, behind the standardisation of its training events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import ConfigError
from difana._typing import Network
from difana.analysis.options import NetworkOptions
from difana.analysis.own_parts import network_maker
from difana.config import is_code
from difana.data import Given, Inputs, Sample, features_of
from difana.nn import MLP, DeepSets, PointEdgeTransformer, Standardised


class Without(eqx.Module):
    """A network that does not see some of the features.

    Attributes:
        net: The network.
        start: The first feature that it does not see (static).
        stop: The next one that it sees (static).

    Example:
        >>> import jax.numpy as jnp
        >>> Without(lambda x: x, 1, 2)(jnp.array([[1.0, 2.0, 3.0]])).tolist()
        [[1.0, 3.0]]
    """

    net: Network
    start: int = eqx.field(static=True)
    stop: int = eqx.field(static=True)

    def __call__(self, inputs: Given) -> Float[Array, "events outputs"]:
        """Return the outputs of the network."""
        return self.net(self.seen(inputs))

    def seen(self, inputs: Any) -> Any:
        """Return what the network sees."""
        features: Any = features_of(inputs)
        cut = (features[..., : self.start], features[..., self.stop :])
        xp: Any = np if isinstance(features, np.ndarray) else jnp
        left = xp.concatenate(cut, axis=-1)
        if isinstance(inputs, Inputs):
            return Inputs(left, inputs.particles, inputs.mask)
        return left


def network_for(
    options: NetworkOptions,
    samples: Sequence[Sample],
    *,
    mean: Float[np.ndarray, " params"] | None = None,
    std: Float[np.ndarray, " params"] | None = None,
    outputs: int = 1,
) -> Callable[[PRNGKeyArray], Any]:
    """Return how to make a new network of standardised inputs: a `Standardised` one.

    Every sample counts the same, whatever its yield: a rare signal must not lie far outside.

    Args:
        options: Kind and size.
        samples: The training events.
        mean: Subtracted from parameters that stand behind the features.
        std: Divides them.
        outputs: Number of outputs.

    Raises:
        ConfigError: If the kind of network does not look at the particles, or there are none; of
            code of the user, if that was not imported, or makes no network of these sizes.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> particles, mask = jnp.ones((4, 5, 3)), jnp.ones((4, 5), bool)
        >>> events = Events(jnp.zeros((4, 0)), jnp.ones(4), particles, mask)
        >>> start = network_for(NetworkOptions(hidden=(8,)), [Sample(events, name="s")])
        >>> start(jax.random.key(0))(events.inputs).shape
        (4, 1)
    """
    inputs = jax.tree.map(
        lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]),
        *(sample.nominal.inputs for sample in samples),
    )
    weights = np.concatenate([np.full(len(s.nominal), 1 / len(s.nominal)) for s in samples])
    names, hidden = samples[0].nominal, None
    columns = names.columns
    if options.columns is not None:
        hidden = Without(_same, options.columns, features_of(inputs).shape[-1])
        inputs, columns = hidden.seen(inputs), columns[: options.columns]
    plain = Standardised.fit(
        _same, inputs, weights, columns=columns, channels=names.particle_columns
    )
    both = [(plain.mean, plain.std)] + ([] if mean is None or std is None else [(mean, std)])
    means, stds = (np.concatenate(parts) for parts in zip(*both, strict=True))
    cloud = isinstance(inputs, Inputs)
    channels = inputs.particles.shape[-1] if isinstance(inputs, Inputs) else 0
    kind = kind_of(options, particles=cloud)
    own = None
    if is_code(kind):
        sizes = {"features": len(means), "outputs": outputs, "channels": channels}
        own = network_maker(kind, dict(options.options), **sizes)

    def start(key: PRNGKeyArray) -> Network:
        net: Any
        if own is not None:
            net = own(key)
        elif kind == "mlp":
            net = MLP(len(means), options.hidden, outputs, activation=options.activation, key=key)
        elif kind == "deep_sets":
            net = DeepSets(
                channels,
                options.hidden,
                outputs,
                latent=options.latent,
                features=len(means),
                activation=options.activation,
                key=key,
            )
        else:
            net = PointEdgeTransformer(
                channels,
                options.latent,
                outputs,
                blocks=options.blocks,
                coordinates=min(2, channels),
                features=len(means),
                key=key,
            )
        found = Standardised(net, means, stds, plain.particle_mean, plain.particle_std)
        return found if hidden is None else Without(found, hidden.start, hidden.stop)

    return start


def new_network(
    options: NetworkOptions, samples: Sequence[Sample], *, key: PRNGKeyArray
) -> Standardised:
    """Return the untrained network of a run, behind the standardisation of the training events.

    Every sample counts the same, whatever its yield: a rare signal must not lie far outside.
    :func:`difana.nn.load_weights` reads ``weights.eqx`` of a run into it.

    Args:
        options: Section ``Network`` of the configuration.
        samples: Training samples.
        key: Random key.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> sample = Sample(Events(jnp.ones((4, 2)), jnp.ones(4)), name="s")
        >>> new_network(NetworkOptions(hidden=(8,)), [sample], key=jax.random.key(0)).mean.tolist()
        [1.0, 1.0]
    """
    return network_for(options, samples)(key)


def kind_of(options: NetworkOptions, *, particles: bool) -> str:
    """Return the kind of network, chosen by the inputs where the options leave it open.

    Raises:
        ConfigError: If it does not look at the particles, or needs some.

    Example:
        >>> kind_of(NetworkOptions(), particles=False), kind_of(NetworkOptions(), particles=True)
        ('mlp', 'deep_sets')
    """
    kind = options.type or ("deep_sets" if particles else "mlp")
    if is_code(kind):
        return kind
    if particles and kind == "mlp":
        raise ConfigError("Network.Type 'mlp' ignores the Particles: choose 'deep_sets' or another")
    if not particles and kind != "mlp":
        raise ConfigError(f"Network.Type '{kind}' needs Particles, and there are none: add them")
    return kind


def _same(x: Any) -> Any:
    return x
