"""The network of an analysis, behind the standardisation of its training events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from difana._errors import ConfigError
from difana.analysis.options import NetworkOptions
from difana.analysis.own_parts import network_maker
from difana.config import is_code
from difana.data import Inputs, Sample
from difana.nn import MLP, DeepSets, PointEdgeTransformer, Standardised


def network_for(
    options: NetworkOptions,
    samples: Sequence[Sample],
    *,
    mean: Float[np.ndarray, " params"] | None = None,
    std: Float[np.ndarray, " params"] | None = None,
    outputs: int = 1,
) -> Callable[[PRNGKeyArray], Standardised]:
    """Return how to make a new network of standardised inputs.

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
    names = samples[0].nominal
    plain = Standardised.fit(
        _same, inputs, weights, columns=names.columns, channels=names.particle_columns
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

    def start(key: PRNGKeyArray) -> Standardised:
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
        return Standardised(net, means, stds, plain.particle_mean, plain.particle_std)

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
