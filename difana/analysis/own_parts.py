"""What code of the user stands for: a network, or an objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import ConfigError
from difana._numerics import third_party_promotion
from difana._typing import Network, PyTree
from difana.analysis.own_code import OwnCode
from difana.config import is_code
from difana.data import Inputs
from difana.infer import Status
from difana.likelihood import Model
from difana.losses import OBJECTIVES, Objective, objective_named


class OwnNetwork(eqx.Module):
    """A network of the user: it may promote types as it likes.

    Attributes:
        net: The network.
    """

    net: Network

    def __call__(self, inputs: PyTree) -> Float[Array, "events outputs"]:
        """Return its outputs."""
        with third_party_promotion():
            return self.net(inputs)


def objective_of(name: str) -> Objective:
    """Return the objective of a training: a row of the table, or code of the user.

    Own code is a function of a model that returns one number to be minimised, or that and
    ``{"value", "status"}``, or one that `difana.losses.objective` decorates.

    Raises:
        ConfigError: If there is none of that name.

    Example:
        >>> objective_of("expected_limit").goal
        'minimise'
    """
    if not isinstance(name, OwnCode):
        if is_code(name):
            raise ConfigError(f"the objective '{name}' is code that was not imported (allow_code)")
        return objective_named(name)
    item = name.item
    if isinstance(item, Objective):
        return item
    of_model = getattr(item, "of_model", None)
    if of_model is not None:
        return next(row for row in OBJECTIVES.values() if row.of_model is of_model)
    return Objective(str(name), _Found(name), (item.__doc__ or str(name)).partition("\n")[0])


@dataclasses.dataclass(frozen=True)
class _Found:
    """A function of a model with what objectives report beside their number."""

    code: OwnCode

    def __call__(self, model: Model) -> tuple[Float[Array, ""], dict[str, Array]]:
        with third_party_promotion():
            found = self.code.item(model)
        pair: Any = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        number, aux = pair
        if jnp.shape(number) != () or not isinstance(aux, Mapping):
            got = f"shape {jnp.shape(number)}" if hasattr(number, "shape") else repr(number)
            raise ConfigError(
                f"Training.Objective '{self.code}' must return one number, or that and a "
                f"dictionary with value and status; got {got}"
            )
        number = jnp.asarray(number, float)
        lost = jnp.where(jnp.isfinite(number), 0, int(Status.NOT_FINITE))
        return number, {"value": number, "status": lost, **aux}


def network_maker(
    code: str, options: Mapping[str, Any], *, features: int, outputs: int, channels: int = 0
) -> Callable[[PRNGKeyArray], OwnNetwork]:
    """Return how to make a network of the user, ``MyNet(features=, outputs=, key=, **Options)``.

    Args:
        code: The class, or a function that returns a network.
        options: ``Network.Options``.
        features: Number of features.
        outputs: Number of outputs.
        channels: With particles the number of their channels, which the maker is given, too.

    Raises:
        ConfigError: If the code was not imported; from the maker, if that cannot be called like
            this, or returns no network of these sizes.
    """
    if not isinstance(code, OwnCode):
        raise ConfigError(f"Network.Type '{code}' is code that was not imported (allow_code)")
    what, make = f"Network.Type '{code}'", code.item
    given = {"features": features, "outputs": outputs}
    given |= {"channels": channels} if channels else {}
    said = ", ".join(f"{name}={value!r}" for name, value in {**given, **options}.items())
    like: Any = jax.ShapeDtypeStruct
    inputs = like((2, features), jnp.float32)
    if channels:
        cloud, mask = like((2, 3, channels), jnp.float32), like((2, 3), jnp.bool_)
        inputs = Inputs(inputs, cloud, mask)

    def start(key: PRNGKeyArray) -> OwnNetwork:
        try:
            with third_party_promotion():
                net: Network = make(**given, key=key, **options)
            if not callable(net):
                raise ConfigError(f"{what} made a {type(net).__name__}, no network")
            found: Any = eqx.filter_eval_shape(OwnNetwork(net), inputs)
            shape = found.shape
        except ConfigError:
            raise
        except Exception as error:  # whatever the code of others does
            raise ConfigError(
                f"{what} makes no network with {said}, key=...: {type(error).__name__}: {error}"
            ) from error
        if not any(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(net)):
            text = "made a network without weights: it must be a PyTree of arrays (Flax, Equinox)"
            raise ConfigError(f"{what} {text}")
        if shape != (2, outputs):
            raise ConfigError(
                f"{what} returns shape {shape} for 2 events, {(2, outputs)} is needed: as many "
                "columns as it is told by outputs="
            )
        return OwnNetwork(net)

    return start
